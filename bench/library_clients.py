"""What ``bench/library.py`` measures: the same work by pmitogen, asyncssh, Paramiko, fabric and parallel-ssh.

``python -m bench.library_clients LIBRARY CASE SETTINGS`` does one case in this process, and prints one line of JSON: seconds and
CPU seconds of the work, without the import of the library.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

AT_ONCE = 50  # hosts
COMMAND = "echo x"
ANSWER = b"x\n"


def check(output: bytes | str) -> None:
    """Raise an error for a wrong answer."""
    raw = output.encode() if isinstance(output, str) else output
    if raw.strip() != ANSWER.strip():
        raise SystemExit(f"wrong output: {raw[:60]!r}")


class Settings:
    """Where and with what to log in."""

    def __init__(self, text: str) -> None:
        found: dict[str, Any] = json.loads(text)
        self.hosts: list[str] = found["hosts"]
        self.port: int = found["port"]
        self.user: str = found["user"]
        self.key: str = found["key"]
        self.large: str = found["large"]  # a file of 256 MiB here
        self.small: str = found["small"]  # a directory of 1,000 files here
        self.remote: str = found["remote"]  # a directory there


def cases(
    case: str,
    settings: Settings,
    commands: Callable[[Sequence[str], int], None],
    files: Callable[[str], None],
    idle: Callable[[], None],
) -> Callable[[], None]:
    """The work of one case.

    :param commands: run a number of commands on each of some hosts.
    :param files: copy files: ``put``, ``get`` or ``small``.
    :param idle: connect to all hosts, and do nothing.
    """
    return {
        "sequential": lambda: commands(settings.hosts[:1], 200),
        "one": lambda: commands(settings.hosts, 1),
        "ten": lambda: commands(settings.hosts, 10),
        "put": lambda: files("put"),
        "get": lambda: files("get"),
        "small": lambda: files("small"),
        "idle": idle,
    }[case]


# pmitogen


def pmitogen_case(case: str, settings: Settings) -> Callable[[], None]:
    import pmitogen

    # Loaded when they are first used; the other libraries import all of their modules at once.
    from pmitogen import aio  # noqa: F401
    from pmitogen.flags.ssh import build_settings, resolve  # noqa: F401
    from pmitogen.hub import bootstrap, mitogen_stream  # noqa: F401
    from pmitogen.transport import connect, connection_identity  # noqa: F401
    from pmitogen.transport.auth import authenticate  # noqa: F401

    options = pmitogen.ConnectOptions(
        user=settings.user,
        port=settings.port,
        keys=[settings.key],
        only_keys=True,
        agent=False,
        config=None,
        settings={"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null"},
    )

    def commands(hosts: Sequence[str], count: int) -> None:
        async def main() -> None:

            async with aio.Hub() as hub:

                async def work(target: str) -> None:
                    async with await hub.connect(target, options=options) as host:
                        for _ in range(count):
                            check((await host.run(COMMAND, check=True)).stdout)

                for outcome in await hub.map(work, hosts, limit=AT_ONCE):
                    outcome.result()

        asyncio.run(main())

    def files(kind: str) -> None:
        with pmitogen.connect(settings.hosts[0], options=options) as host:
            if kind == "put":
                host.put(settings.large, f"{settings.remote}/large")
            elif kind == "get":
                host.get(f"{settings.remote}/large", settings.large + ".back")
            else:
                host.put_tree(settings.small, f"{settings.remote}/small")

    def idle() -> None:
        with pmitogen.Hub() as hub:
            hub.connect_all(settings.hosts, limit=AT_ONCE, options=options)
            print("connected", flush=True)
            time.sleep(2)

    return cases(case, settings, commands, files, idle)


# asyncssh


def asyncssh_case(case: str, settings: Settings) -> Callable[[], None]:
    import asyncssh

    def connect(host: str) -> Any:
        return asyncssh.connect(
            host,
            settings.port,
            username=settings.user,
            client_keys=[settings.key],
            known_hosts=None,
            agent_path=None,
            config=None,
        )

    async def commands(hosts: Sequence[str], count: int) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def work(host: str) -> None:
            async with room, connect(host) as connection:
                for _ in range(count):
                    check((await connection.run(COMMAND, check=True)).stdout)

        await asyncio.gather(*map(work, hosts))

    async def files(kind: str) -> None:
        async with connect(settings.hosts[0]) as connection, connection.start_sftp_client() as sftp:
            if kind == "put":
                await sftp.put(settings.large, f"{settings.remote}/large")
            elif kind == "get":
                await sftp.get(f"{settings.remote}/large", settings.large + ".back")
            else:
                await sftp.put(settings.small, f"{settings.remote}/small", recurse=True)

    async def idle() -> None:
        room = asyncio.Semaphore(AT_ONCE)
        made = []

        async def work(host: str) -> None:
            async with room:
                made.append(await connect(host))

        await asyncio.gather(*map(work, settings.hosts))
        print("connected", flush=True)
        await asyncio.sleep(2)
        for connection in made:
            connection.close()

    return cases(
        case,
        settings,
        lambda hosts, count: asyncio.run(commands(hosts, count)),
        lambda kind: asyncio.run(files(kind)),
        lambda: asyncio.run(idle()),
    )


# Paramiko, and fabric, which is made of it


def _threads(hosts: Sequence[str], work: Callable[[str], None]) -> None:
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, hosts))


def paramiko_case(case: str, settings: Settings) -> Callable[[], None]:
    import paramiko

    def connect(host: str) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(host, settings.port, settings.user, key_filename=settings.key, allow_agent=False, look_for_keys=False)
        return client

    def commands(hosts: Sequence[str], count: int) -> None:
        def work(host: str) -> None:
            with connect(host) as client:
                for _ in range(count):
                    check(client.exec_command(COMMAND)[1].read())

        _threads(hosts, work)

    def files(kind: str) -> None:
        with connect(settings.hosts[0]) as client, client.open_sftp() as sftp:
            if kind == "put":
                sftp.put(settings.large, f"{settings.remote}/large")
            elif kind == "get":
                sftp.get(f"{settings.remote}/large", settings.large + ".back")
            else:
                with contextlib.suppress(OSError):
                    sftp.mkdir(f"{settings.remote}/small")
                for path in Path(settings.small).iterdir():
                    sftp.put(str(path), f"{settings.remote}/small/{path.name}")

    def idle() -> None:
        made: list[paramiko.SSHClient] = []
        _threads(settings.hosts, lambda host: made.append(connect(host)))
        print("connected", flush=True)
        time.sleep(2)
        for client in made:
            client.close()

    return cases(case, settings, commands, files, idle)


def fabric_case(case: str, settings: Settings) -> Callable[[], None]:
    import fabric

    def connect(host: str) -> Any:
        arguments = {"key_filename": settings.key, "allow_agent": False, "look_for_keys": False}
        config = fabric.Config(overrides={"load_ssh_configs": False})
        return fabric.Connection(host, settings.user, settings.port, connect_kwargs=arguments, config=config)

    def commands(hosts: Sequence[str], count: int) -> None:
        def work(host: str) -> None:
            with connect(host) as connection:
                for _ in range(count):
                    check(connection.run(COMMAND, hide=True, in_stream=False).stdout)

        _threads(hosts, work)

    def files(kind: str) -> None:
        with connect(settings.hosts[0]) as connection:
            if kind == "put":
                connection.put(settings.large, f"{settings.remote}/large")
            elif kind == "get":
                connection.get(f"{settings.remote}/large", settings.large + ".back")
            else:
                connection.run(f"mkdir -p {settings.remote}/small", hide=True, in_stream=False)
                for path in Path(settings.small).iterdir():
                    connection.put(str(path), f"{settings.remote}/small/{path.name}")

    def idle() -> None:
        made = [connect(host) for host in settings.hosts]
        _threads(settings.hosts, lambda host: made[settings.hosts.index(host)].open())
        print("connected", flush=True)
        time.sleep(2)
        for connection in made:
            connection.close()

    return cases(case, settings, commands, files, idle)


# parallel-ssh


def pssh_case(case: str, settings: Settings) -> Callable[[], None]:
    from pssh.clients import ParallelSSHClient

    def client(hosts: Sequence[str]) -> Any:
        return ParallelSSHClient(
            list(hosts),
            user=settings.user,
            port=settings.port,
            pkey=settings.key,
            pool_size=AT_ONCE,
            allow_agent=False,
            identity_auth=False,
        )

    def commands(hosts: Sequence[str], count: int) -> None:
        made = client(hosts)
        for _ in range(count):
            for output in made.run_command(COMMAND):
                check("\n".join(output.stdout))

    def files(kind: str) -> None:
        import gevent

        made = client(settings.hosts[:1])
        if kind == "put":
            made_of = made.copy_file(settings.large, f"{settings.remote}/large")
        elif kind == "get":
            made_of = made.copy_remote_file(f"{settings.remote}/large", settings.large + ".back")
        else:
            made_of = made.copy_file(settings.small, f"{settings.remote}/small", recurse=True)
        gevent.joinall(made_of, raise_error=True)

    def idle() -> None:
        made = client(settings.hosts)
        gone = made.connect_auth()
        for each in gone:
            each.join()
        print("connected", flush=True)
        time.sleep(2)

    return cases(case, settings, commands, files, idle)


LIBRARIES = {
    "pmitogen": pmitogen_case,
    "asyncssh": asyncssh_case,
    "paramiko": paramiko_case,
    "fabric": fabric_case,
    "parallel-ssh": pssh_case,
}


def main(argv: Sequence[str]) -> None:
    library, case, settings = argv
    work = LIBRARIES[library](case, Settings(settings))
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"wall": time.monotonic() - begin, "cpu": cpu}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # some have threads that would keep it


if __name__ == "__main__":
    main(sys.argv[1:])
