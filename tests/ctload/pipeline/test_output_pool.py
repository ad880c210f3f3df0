"""OutputPool: memory is used again only when the last reference to it is gone."""

import queue
import threading

import numpy as np
import pytest

from ctload.pipeline.output_pool import OutputPool


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_memory_comes_back_when_the_array_is_gone() -> None:
    pool = OutputPool()
    array = pool.take((2, 3))
    first = address(array)
    del array
    assert address(pool.take((3, 2))) == first


def test_arrays_views_and_tensors_keep_their_memory() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    pool = OutputPool()
    for keep in (lambda a: a, lambda a: a[1:, 0], lambda a: a.T.reshape(-1), torch.from_numpy, torch.from_dlpack):
        kept = keep(pool.take((4, 4)))
        kept[:] = 7
        others = [pool.take((4, 4)) for _ in range(6)]
        for other in others:
            other[:] = 0
        assert (kept == 7).all()


def test_a_new_shape_lets_go_of_the_old_memory() -> None:
    pool = OutputPool()
    arrays = [pool.take((10,)) for _ in range(8)]
    del arrays
    assert len(pool._free) == 4
    pool.take((11,))
    assert [buffer.size for buffer in pool._free] == [11]


def test_two_threads_never_share_memory() -> None:
    pool, handed = OutputPool(), queue.Queue(maxsize=3)
    wrong: list[int] = []

    def consume() -> None:
        while (item := handed.get()) is not None:
            array, number = item
            if not (array == number).all():
                wrong.append(number)
            del item, array

    consumer = threading.Thread(target=consume)
    consumer.start()
    for number in range(20_000):
        array = pool.take((64,))
        array[:] = number
        handed.put((array, number))
    handed.put(None)
    consumer.join()
    assert wrong == []
