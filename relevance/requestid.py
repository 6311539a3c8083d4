"""What a request id may be. The client checks it, and the service takes over no other, so that both logs agree."""

import re

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
