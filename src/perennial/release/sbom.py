"""The bill of materials of a release, as CycloneDX: what is in the image, the model, and the data it learnt from."""

import datetime
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import UserError
from perennial.files import atomic, read_json
from perennial.git import git, yaml_at

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

SBOM = Path("release/sbom.cdx.json")
SERVE, LICENCE = Path("requirements/serve.txt"), "MIT"


def write(version: str) -> Path:
    """Write release/sbom.cdx.json, the same bytes for the same commit; its path.

    Raises:
        UserError: when the document is not valid CycloneDX (a fault of this code).
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    model, data, packages = _model(version), _data(), _packages()
    bom = Bom(components=[model, *data, *packages])
    bom.metadata.component = _image(version)
    bom.metadata.timestamp = datetime.datetime.fromisoformat(git("show", "-s", "--format=%cI", "HEAD"))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, git("rev-parse", "HEAD"))
    bom.register_dependency(bom.metadata.component, [model, *packages])
    bom.register_dependency(model, data)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong:
        raise UserError(f"the bill of materials is not valid: {wrong}")
    with atomic(SBOM) as path:
        path.write_text(text + "\n", encoding="utf-8")
    return SBOM


def _image(version: str) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(name="perennial", version=version, type=ComponentType.CONTAINER, bom_ref="image")


def _model(version: str) -> "Component":
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression

    profile = read_json("models/profile.json")
    facts = {"contract": profile["contract_digest"], "estimator": profile["model"]["estimator"]}
    facts |= {"commit": git("rev-parse", "HEAD"), "trained-on-rows": str(profile["trained_on"]["rows"])}
    return Component(
        name="model.onnx",
        version=version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=profile["model"]["sha256"])],
        licenses=[LicenseExpression(LICENCE)],
        properties=[Property(name=f"perennial:{name}", value=value) for name, value in sorted(facts.items())],
    )


def _data() -> "list[Component]":
    """What the pipeline read, as its lock names it."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    raw = yaml_at("HEAD", "params.yaml")["data"]["raw"]
    stages = yaml_at("HEAD", "dvc.lock")["stages"].values()
    entry: dict[str, Any] = next(d for stage in stages for d in stage.get("deps", ()) if d["path"] == raw)
    digest = entry["md5"].removesuffix(".dir")  # DVC's own digest of the folder
    return [
        Component(
            name=raw,
            type=ComponentType.DATA,
            bom_ref="data",
            description=f"{entry.get('nfiles', 1)} files, {entry['size']} bytes",
            hashes=[HashType(alg=HashAlgorithm.MD5, content=digest)],
        )
    ]


def _packages() -> "list[Component]":
    """The packages that the image installs, as its lock pins them for Linux."""
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL
    from packaging.requirements import Requirement

    lines = [line.removesuffix("\\").strip() for line in SERVE.read_text("utf-8").splitlines() if line[:1].isalnum()]
    wanted = [Requirement(line) for line in lines]
    python = Path(".python-version").read_text("utf-8").strip()
    image = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    image |= {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    pinned = [r for r in wanted if not r.marker or r.marker.evaluate(dict(image))]
    versions = {r.name: str(r.specifier).removeprefix("==") for r in pinned}
    return [
        Component(
            name=n, version=v, type=ComponentType.LIBRARY, purl=PackageURL("pypi", None, n, v), bom_ref=f"{n}=={v}"
        )
        for n, v in versions.items()
    ]
