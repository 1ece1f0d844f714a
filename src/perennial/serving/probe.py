"""`python -m perennial.serving.probe`: whether the service in this container is ready; its HEALTHCHECK."""

import os
import sys
from http.client import HTTPConnection


def main() -> None:
    connection = HTTPConnection(
        "127.0.0.1", int(os.environ.get("AIP_HTTP_PORT") or os.environ.get("PORT", "8080")), timeout=2
    )
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except OSError as error:
        sys.exit(f"not ready: {error}")
    if status != 200:
        sys.exit(f"not ready: {status}")


if __name__ == "__main__":
    main()
