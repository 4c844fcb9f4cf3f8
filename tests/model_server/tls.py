"""A self-signed certificate for the loopback names."""

import ssl
import subprocess
from pathlib import Path


def make_certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """The certificate's file, which clients take as their CA, and the server's context."""
    certificate, key = directory / "model-ca.pem", directory / "model-key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    arguments = [*command.split(), "-addext", names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(arguments, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
