"""Threads in each of which torch computes alone.

The layers of a small network are shorter than it takes the threads of a layer to wait for each
other: two threads together take nearly as long for a tile or a crop as one does, so each takes one
of its own. What comes out does not depend on the number of threads then, to the last bit.

Shapes: none; no tensor is touched here.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch

_starting = threading.Lock()


def lone_threads(count: int) -> ThreadPoolExecutor:
    """Start so many threads, without a change to the number that the calling thread uses."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="cellcount-lone")
    started = threading.Barrier(count)

    def start(_: int) -> None:
        torch.get_num_threads()  # its first call in a thread takes over the number of the process
        torch.set_num_threads(1)
        started.wait()

    with _starting:  # meanwhile another thread would take the number for that of the process
        own = torch.get_num_threads()
        try:
            list(pool.map(start, range(count)))
        except BaseException:  # a thread that could not start is waited for by the others
            started.abort()
            raise
        torch.set_num_threads(own)  # part of the number is that of the process
    return pool
