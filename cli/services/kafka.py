"""Apache Kafka from its Maven jars, one node in KRaft mode."""

import base64
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from xml.etree import ElementTree

from cli.services.handshake import kafka_brokers
from cli.services.install import cache_dir, find_program, locked, run_installer
from cli.services.model import LOOPBACK, Command, Kind
from core.errors import UnavailableError

JAVA_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""A small heap, one thread for garbage, no optimising compiler: it would take a core from the models for minutes."""
FORMAT_TIMEOUT_S = 60.0
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class KafkaServer:
    """One broker that is its own controller."""

    kind: Kind = "kafka"
    ports: tuple[str, ...] = ("port", "controller_port", "proxied_port", "proxy_port")
    start_timeout_s = 90.0

    def fetch(self) -> None:
        """Get Java and the jars."""
        find_program("java", ["default-jre-headless"])
        kafka_jars()

    def prepare(self, folder: Path, ports: Mapping[str, int]) -> list[Command]:
        """Fetch the jars once, write the configuration, format the storage once."""
        java = find_program("java", ["default-jre-headless"])
        libs = kafka_jars()
        config = folder / "kafka.properties"
        template = Template((files("cli") / "services" / "kafka.properties").read_text())
        config.write_text(template.substitute(folder=folder, **{name: str(port) for name, port in ports.items()}))
        jvm: list[str | Path] = [java, *JAVA_OPTIONS, "-cp", f"{libs}/*"]
        if not (folder / "data" / "meta.properties").exists():
            self._format([*jvm, "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", config, "--ignore-formatted"])
        return [Command(name="kafka", args=[*jvm, "kafka.Kafka", config], environment=ENVIRONMENT)]

    def _format(self, command: list[str | Path]) -> None:
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, env=ENVIRONMENT)
        except (OSError, subprocess.SubprocessError) as err:
            words = (getattr(err, "stderr", "") or str(err)).strip().splitlines()
            raise UnavailableError(f"can't format its storage: {words[-1]}") from err

    def version(self, ports: Mapping[str, int]) -> str:
        """Return the version of the jars, once the broker knows itself."""
        kafka_brokers(LOOPBACK, ports["port"])
        return kafka_version()

    def environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        """Return the log's URL."""
        return {"SIGHTLINE_LOG_URL": f"kafka://{LOOPBACK}:{ports['port']}"}


def kafka_version() -> str:
    """Return the version that the shipped pom.xml pins."""
    root = ElementTree.fromstring((files("cli") / "services" / "pom.xml").read_text())
    version = next(element.text for element in root.iter() if element.tag.endswith("}kafka.version"))
    return version or ""


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars, fetching them through Maven the first time (about a minute).

    Raises:
        UnavailableError: Maven is missing, or can't reach a repository.
    """
    libs = cache_dir() / f"kafka-{kafka_version()}"
    with locked(cache_dir() / "kafka.lock"):
        if libs.is_dir():
            return libs
        maven = find_program("mvn", ["maven", "default-jre-headless"])
        with tempfile.TemporaryDirectory(dir=cache_dir(), prefix="kafka.new-") as fresh:
            work = Path(fresh)
            (work / "pom.xml").write_text((files("cli") / "services" / "pom.xml").read_text())
            goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={work / 'libs'}"]
            run_installer([maven, "-q", "-B", *goal], what="fetch Kafka's jars through Maven", folder=work)
            shutil.move(work / "libs", libs)
    return libs


def _cluster_id() -> str:
    random = uuid.uuid4().bytes
    usable = bytes([random[0] & 0x7F]) + random[1:]  # an id that begins with a dash would be taken for an option
    return base64.urlsafe_b64encode(usable).decode().rstrip("=")
