"""A Kafka whose second listener wants TLS with client certificates, and a third one TLS and a password."""

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cli.services.kafka import KafkaServer
from cli.services.processes import end, free_ports, spawn
from core.errors import UnavailableError

USER, PASSWORD = "sightline", "correct horse"
PORTS = (*KafkaServer.ports, "ssl_port", "sasl_port")
START_S = 90.0


@dataclass(frozen=True)
class SecureKafka:
    """Where it listens and what a client needs."""

    ssl_url: str
    sasl_url: str
    ca_file: Path
    cert_file: Path
    key_file: Path


@contextmanager
def open_secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """Run it inside the block."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    server = KafkaServer()
    (command,) = server.prepare(folder, ports)
    ca = Authority(folder)
    broker, client = ca.issue("broker"), ca.issue("client")
    config = folder / "kafka.properties"
    config.write_text(config.read_text() + _security(ports, broker, ca.cert_file, folder))
    spawned, child = spawn(command, folder / "server.log")
    try:
        _await(server, ports)
        _add_user(ports["port"])
        yield SecureKafka(
            ssl_url=f"kafka://localhost:{ports['ssl_port']}",
            sasl_url=f"kafka://localhost:{ports['sasl_port']}",
            ca_file=ca.cert_file,
            cert_file=client[0],
            key_file=client[1],
        )
    finally:
        end(spawned, kill=True, timeout_s=10)
        child.wait(10)


def _security(ports: dict[str, int], broker: tuple[Path, Path], ca_file: Path, folder: Path) -> str:
    store = folder / "broker-store.pem"
    store.write_text(broker[1].read_text() + broker[0].read_text())
    listeners = f"PLAINTEXT://127.0.0.1:{ports['port']},SSL://127.0.0.1:{ports['ssl_port']},SASL_SSL://127.0.0.1:{ports['sasl_port']}"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return f"""
listeners={listeners},CONTROLLER://127.0.0.1:{ports["controller_port"]}
advertised.listeners={listeners.replace("SSL://127.0.0.1", "SSL://localhost")}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={ca_file}
listener.name.ssl.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config={plain} required user_{USER}="{PASSWORD}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram} required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram} required;
"""


def _await(server: KafkaServer, ports: dict[str, int]) -> None:
    give_up_s = time.monotonic() + START_S
    while True:
        try:
            server.version(ports)
        except UnavailableError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.2)
        else:
            return


def _add_user(port: int) -> None:
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        upsertion = UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
        for future in admin.alter_user_scram_credentials([upsertion]).values():
            future.result(10)


class Authority:
    """Signs certificates for localhost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._cert = self._sign(self._name, self._key.public_key(), authority=True)
        self.cert_file = folder / "ca.pem"
        self.cert_file.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), authority=False)
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return cert_file, key_file

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
