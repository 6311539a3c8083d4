"""The page that people open in a browser, and the interactive OpenAPI page: their files, their headers, their routes.

Must not know how pairs are scored: the page calls the routes that every caller has.
"""
