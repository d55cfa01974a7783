"""A session of paramiko, as an agent would have it. The server comes from SSH_…; FILES is a directory there."""

from __future__ import annotations

import base64
import os
import socket
import socketserver
import threading

import paramiko
from report import Report

report = Report("paramiko")
HOST, PORT, USER = os.environ["SSH_HOST"], int(os.environ["SSH_PORT"]), os.environ["SSH_USER"]
FILES = os.environ["FILES"]
PASSWORD = os.environ.get("SSH_PASSWORD", "")
BULK = bytes(range(256)) * 8000


def connect() -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    kind, key = os.environ["SSH_HOST_KEY"].split()
    name = f"[{HOST}]:{PORT}"
    client.get_host_keys().add(name, kind, paramiko.Ed25519Key(data=base64.b64decode(key)))
    secret = {"password": PASSWORD} if PASSWORD else {"key_filename": os.environ["SSH_KEY"]}
    client.connect(HOST, PORT, USER, allow_agent=False, look_for_keys=False, **secret)
    return client


def commands(client: paramiko.SSHClient) -> None:
    for command in ("echo out; echo err >&2; exit 7", "true", "kill -TERM $$", "no-such-program"):
        _, out, err = client.exec_command(command)
        report.saw(command, [out.channel.recv_exit_status(), out.read(), err.read()])
    given, out, _ = client.exec_command("cat; echo after")
    given.write(b"some input\n")
    given.channel.shutdown_write()
    report.saw("input and its end", out.read())
    given, out, _ = client.exec_command("sha256sum")
    given.write(BULK)
    given.channel.shutdown_write()
    report.saw("much input", out.read())
    _, out, _ = client.exec_command("head -c 3000000 /dev/zero")
    report.saw("much output", len(out.read()))
    _, out, _ = client.exec_command("stty size; tty | cut -c1-9", get_pty=True)
    report.saw("a terminal", out.read())
    _, out, _ = client.exec_command("echo $GREETING", environment={"GREETING": "hello"})
    report.saw("environment", out.read())


def shell(client: paramiko.SSHClient) -> None:
    channel = client.invoke_shell(width=91, height=17)
    channel.settimeout(60)
    channel.send(b"PS1=; stty -echo; echo rea''dy; stty size\n")
    seen = b""
    while b"ready\r\n17 91\r\n" not in seen:
        seen += channel.recv(10000)
    channel.resize_pty(width=120, height=40)
    channel.send(b"stty size; exit 5\n")
    while part := channel.recv(10000):
        seen += part
    report.saw("shell", [channel.recv_exit_status(), b"40 120\r\n" in seen])


def files(client: paramiko.SSHClient) -> None:
    with client.open_sftp() as sftp:
        sftp.chdir(FILES)
        with sftp.open("made", "wb") as file:
            file.set_pipelined(True)
            file.write(BULK)
        with sftp.open("made", "rb") as file:
            file.prefetch()
            report.saw("as written", file.read() == BULK)
        with sftp.open("made", "rb") as file:
            file.seek(1_000_003)
            report.saw("a part", file.read(10))
            report.saw("parts", [bytes(part) for part in file.readv([(5, 5), (700_000, 7)])])
        with sftp.open("made", "r+b") as file:
            file.seek(3)
            file.write(b"changed")
            file.truncate(1000)
        with sftp.open("made", "ab") as file:
            file.write(b"more")
        told = sftp.stat("made")
        report.saw("stat", [told.st_size, oct(told.st_mode or 0)])
        sftp.symlink("made", "soft")
        report.saw("a link", [sftp.readlink("soft"), sftp.lstat("soft").st_size])
        sftp.mkdir("place", 0o700)
        sftp.posix_rename("made", "place/moved")
        sftp.chmod("place/moved", 0o640)
        sftp.utime("place/moved", (1_600_000_000, 1_600_000_001))
        listed = sftp.listdir_attr("place")
        report.saw("list", sorted(f"{item.filename} {item.st_size} {item.st_mtime}" for item in listed))
        for name, action in (
            ("missing", lambda: sftp.stat("missing")),
            ("not empty", lambda: sftp.rmdir("place")),
            ("a directory", lambda: sftp.open("place", "wb")),
        ):
            try:
                action()
            except OSError as error:
                report.saw(name, [type(error).__name__, str(error)])
        sftp.remove("place/moved")
        sftp.rmdir("place")
        sftp.remove("soft")
        report.saw("empty again", sftp.listdir())


class Upper(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(self.request.recv(1000).upper())


def forwards(client: paramiko.SSHClient) -> None:
    transport = client.get_transport()
    assert transport is not None
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upper) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        channel = transport.open_channel("direct-tcpip", server.server_address, ("127.0.0.1", 5))  # type: ignore[arg-type]
        channel.settimeout(60)
        channel.sendall(b"through a channel")
        report.saw("direct-tcpip", channel.recv(1000))
        channel.close()
        server.shutdown()
    try:
        transport.open_channel("direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 5))
    except paramiko.ChannelException as error:
        report.saw("nobody listens", [error.code, error.text])
    port = transport.request_port_forward("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port)) as caller:
        channel = transport.accept(60)
        assert channel is not None
        caller.sendall(b"from there")
        report.saw("forwarded-tcpip", channel.recv(1000))
        channel.close()
    transport.cancel_port_forward("127.0.0.1", port)
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        report.saw("after the cancel", "refused")


def interactive() -> None:
    """The secret as the answer to a question."""
    transport = paramiko.Transport((HOST, PORT))
    transport.start_client(timeout=60)
    transport.auth_interactive(USER, lambda title, about, prompts: [PASSWORD for _ in prompts])
    channel = transport.open_session()
    channel.exec_command("echo asked and answered")
    report.saw("keyboard-interactive", channel.recv(1000).decode())
    transport.close()


with connect() as client:
    commands(client)
    shell(client)
    files(client)
    forwards(client)
    transport = client.get_transport()
    assert transport is not None
    transport.renegotiate_keys()
    _, out, _ = client.exec_command("echo with new keys")
    report.saw("new keys", out.read())
if PASSWORD:
    interactive()
report.print()
