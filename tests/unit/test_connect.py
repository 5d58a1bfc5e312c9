"""What answers at a Redis URL, and is no Redis."""

import socket
import threading

import pytest

from img2img_shared.connect import connect
from img2img_shared.errors import Unavailable


def test_a_server_that_is_no_redis_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable, match=r"Redis at redis://127\.0\.0\.1:\d+ does not answer: .*HTTP"):
            connect(f"redis://127.0.0.1:{server.getsockname()[1]}")
        thread.join()
