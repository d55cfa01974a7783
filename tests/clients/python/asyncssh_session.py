"""A session of asyncssh, as an agent would have it. The server comes from SSH_…; FILES is a directory there."""

from __future__ import annotations

import asyncio
import os

import asyncssh
from report import Report

report = Report("asyncssh")
FILES = os.environ["FILES"]
BULK = bytes(range(256)) * 8000


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read()).upper())
    writer.write_eof()
    writer.close()


async def commands(client: asyncssh.SSHClientConnection) -> None:
    for command in ("echo out; echo err >&2; exit 7", "kill -KILL $$", "no-such-program"):
        done = await client.run(command)
        report.saw(command, [done.exit_status, done.exit_signal, done.returncode, done.stdout, done.stderr])
    async with client.create_process("cat", encoding=None) as process:
        process.stdin.write(BULK)
        process.stdin.write_eof()
        report.saw("both ways", await process.stdout.read() == BULK)
    async with client.create_process("stty size; read a; stty size", term_type="xterm", term_size=(91, 17)) as process:
        report.saw("size", await process.stdout.readline())
        process.change_terminal_size(120, 40)
        process.stdin.write("\n")
        report.saw("another size", (await process.stdout.read()).split()[-2:])
    try:
        done = await client.run("read a; echo never", term_type="xterm", input="", timeout=0.5)
    except asyncssh.TimeoutError:
        report.saw("a timeout", "yes")
    several = await asyncio.gather(*(client.run(f"cat; exit {n}", input=f"{n}" * 1000) for n in range(20)))
    report.saw("at a time", [[done.exit_status, len(str(done.stdout))] for done in several])


async def files(client: asyncssh.SSHClientConnection) -> None:
    async with client.start_sftp_client() as sftp:
        await sftp.chdir(FILES)
        async with sftp.open("made", "wb") as file:
            await file.write(BULK)
        async with sftp.open("made", "rb") as file:
            report.saw("as written", await file.read() == BULK)
        await sftp.copy("made", "copied") if sftp.supports_remote_copy else None
        await sftp.rename("made", "moved")
        report.saw("list", sorted(str(name) for name in await sftp.listdir() if str(name) != "copied"))
        report.saw("real path", str(await sftp.realpath("moved")).endswith("/moved"))
        vfs = await sftp.statvfs(".")
        report.saw("file system", vfs.bsize > 0)
        try:
            await sftp.stat("missing")
        except asyncssh.SFTPError as error:
            report.saw("missing", [error.code, error.reason])
        await sftp.rmtree(FILES)


async def forwards(client: asyncssh.SSHClientConnection) -> None:
    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await client.open_connection("127.0.0.1", port)
    writer.write(b"through")
    writer.write_eof()
    report.saw("direct-tcpip", await reader.read())
    listener = await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", port)
    reader2, writer2 = await asyncio.open_connection("127.0.0.1", listener.get_port())
    writer2.write(b"and back")
    writer2.write_eof()
    report.saw("forwarded-tcpip", await reader2.read())
    writer2.close()
    listener.close()
    await listener.wait_closed()
    try:
        await client.open_connection("127.0.0.1", 1)
    except asyncssh.ChannelOpenError as error:
        report.saw("nobody listens", [error.code, error.reason])
    server.close()


async def main() -> None:
    host, port, key = os.environ["SSH_HOST"], int(os.environ["SSH_PORT"]), os.environ["SSH_HOST_KEY"]
    password = os.environ.get("SSH_PASSWORD")
    options = asyncssh.SSHClientConnectionOptions(
        config=[],
        username=os.environ["SSH_USER"],
        known_hosts=asyncssh.import_known_hosts(f"[{host}]:{port} {key}\n"),
        agent_path=None,
        rekey_bytes=1_000_000,
        keepalive_interval=1,
        **({"password": password, "client_keys": None} if password else {"client_keys": [os.environ["SSH_KEY"]]}),
    )
    async with asyncssh.connect(host, port, options=options) as client:
        await commands(client)
        await files(client)
        await forwards(client)
    report.print()


asyncio.run(main())
