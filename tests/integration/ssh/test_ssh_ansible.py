"""Ansible plays the same through a gateway as at the server, with a certificate that its user got for a token."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.presence import missing
from support.ssh_gateway import SshGateway
from support.ssh_pairs import Side, certified, direct, same, through
from support.sshd import Sshd

pytestmark = [pytest.mark.clients, pytest.mark.slow]

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
  - name: ping
    ansible.builtin.ping:
  - name: a place
    ansible.builtin.file: {path: "{{ there }}/place", state: directory, mode: "0750"}
  - name: a copy
    ansible.builtin.copy: {src: "{{ here }}/data", dest: "{{ there }}/place/data", mode: "0640"}
  - name: a template
    ansible.builtin.template: {src: "{{ here }}/greeting.j2", dest: "{{ there }}/place/greeting", mode: "0644"}
  - name: a command
    ansible.builtin.command: cat {{ there }}/place/greeting
    register: said
  - name: what it said
    ansible.builtin.debug: {var: said.stdout_lines}
  - name: back
    ansible.builtin.fetch: {src: "{{ there }}/place/data", dest: "{{ here }}/fetched", flat: true}
  - name: what fails
    ansible.builtin.command: /no/such/program
    ignore_errors: true
"""


def play(side: Side) -> None:
    side.file("play.yaml", PLAYBOOK.encode())
    side.file("data", bytes(range(256)) * 2000)
    side.file("greeting.j2", b"Hello {{ greeting }}, from {{ inventory_hostname }}\n")
    settings = side.file("ansible.cfg", b"")
    extra = f"greeting='all of you' here={side.directory} there={side.remote}"
    arguments = f"-F {side.config}"
    done = side.run(
        ["ansible-playbook", "-i", "target,", "--extra-vars", extra, "play.yaml"],
        ANSIBLE_SSH_COMMON_ARGS=arguments, ANSIBLE_SFTP_EXTRA_ARGS="", ANSIBLE_LOCAL_TEMP=str(side.directory / "tmp"),
        ANSIBLE_REMOTE_TEMP=f"{side.remote}/tmp", ANSIBLE_NOCOWS="1", ANSIBLE_NOCOLOR="1", ANSIBLE_CONFIG=str(settings),
        ANSIBLE_SSH_CONTROL_PATH_DIR=f"/tmp/ostiary-ansible-{side.port}", ANSIBLE_PYTHON_INTERPRETER="/usr/bin/python3",
        ANSIBLE_HOME=str(side.directory / "home"),
    )  # fmt: skip
    assert done.code == 0, done.text + done.said
    assert (side.directory / "fetched").read_bytes() == (side.directory / "data").read_bytes()
    side.ssh("-O", "exit", "-o", f"ControlPath=/tmp/ostiary-ansible-{side.port}/*", "target", noted=False)
    side.tree(side.remote / "place")


def test_a_playbook(target: Sshd, gateway: SshGateway, tmp_path: Path) -> None:
    if shutil.which("ansible-playbook") is None:
        missing("ansible is not here: apt-get install -y ansible-core")
    same(play, direct(target, tmp_path), certified(gateway, tmp_path))


def test_a_certificate_opens_only_what_the_token_does(gateway: SshGateway, tmp_path: Path) -> None:
    side = certified(gateway, tmp_path)
    assert side.ok("echo by certificate").text == "by certificate\n"
    assert side.ssh("-l", "somebody", "target", "id").code == 255
    other = through(gateway, tmp_path, "stranger", token="nobody's-token-0123456789012345678901234")
    alone = other.directory / "alone"
    shutil.copy(side.directory / "id", alone)
    other.options = {**other.options, "IdentityFile": str(alone), "PreferredAuthentications": "publickey"}
    other.configure()
    assert other.ssh("target", "id").code == 255, "the key without its certificate"
