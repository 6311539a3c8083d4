"""Which model a name and a version mean."""

from service.errors import UnavailableError, UnknownTaskError
from service.lifecycle.service import Service
from service.scoring.served_model import ServedModel


def find(service: Service, name: str, version: str | None) -> ServedModel:
    """Return a model by its name or task: the active one, or the one of a version, which may be a canary's.

    Raises UnavailableError while bundles are still loading, else UnknownTaskError for what is not served.
    """
    for task, active in service.models.items():
        model = active if version is None else service.rollouts[task].versions.get(version)
        if model is not None and name in (task.value, model.manifest.name):
            return model
    if not service.settled.is_set() or service.failure is not None:
        raise UnavailableError(service.obstacle or "no model is loaded")
    asked = f"{name[:100]!r}" + (f" version {version[:100]!r}" if version else "")
    served = ", ".join(
        f"{model.manifest.name!r} version {model.manifest.version!r}" for model in service.models.values()
    )
    raise UnknownTaskError(f"model {asked} is not served here; expected {served}")
