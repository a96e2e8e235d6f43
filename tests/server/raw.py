"""Requests byte by byte, as no client library sends them."""

import socket


def exchange(address: tuple[str, int], data: bytes, seconds: float = 20) -> bytes:
    """Send bytes, and read until the server closes or has answered with a whole body."""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(data)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> bytes:
    """An answer with its body, or what came before the server closed."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            return data
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return data
        if not part:
            return data
        data += part


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def status(answer: bytes) -> int:
    """The status of an answer; 0 where there was none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def post(path: str, headers: dict[str, str], body: bytes = b"", host: str = "127.0.0.1") -> bytes:
    """A request as bytes."""
    lines = {"Host": host, "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
