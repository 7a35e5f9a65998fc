"""Denormals are flushed in the calling thread and in those that compute for it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

BODY = """
    import torch
    torch.set_num_threads(2)
    torch.rand(1 << 20).square().sum()  # the intra-op threads exist before the flag is set
    from pipeline.nmf import denormals_flushed, flush_denormals
    assert not denormals_flushed()
    {act}
"""


def run(act: str) -> None:
    """Run `act` in a fresh process whose intra-op threads were started without the flag."""
    code = textwrap.dedent(BODY).format(act=textwrap.dedent(act))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_flag_of_the_calling_thread_alone_is_not_enough() -> None:
    run("torch.set_flush_denormal(True)\nassert not denormals_flushed()")


def test_flush_reaches_intra_op_threads_that_exist() -> None:
    run("assert flush_denormals()\nassert denormals_flushed()")


def test_each_python_thread_needs_its_own() -> None:
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(denormals_flushed).result()
            assert flush_denormals()
            assert not pool.submit(denormals_flushed).result()
            assert pool.submit(flush_denormals).result()
            assert pool.submit(denormals_flushed).result()
        """
    )


def test_threads_that_share_blocks_flush() -> None:
    run(
        """
        from pipeline.system.threads import side_by_side
        V = torch.zeros(5000, 1)
        found = side_by_side(lambda rows: (rows.start, denormals_flushed()), V, 2048)
        assert found == [(0, True), (2048, True)], found
        assert torch.get_num_threads() == 2
        """
    )


def test_a_fit_in_memory_flushes_the_threads_of_its_large_products() -> None:
    run(
        """
        from pipeline import nmf
        nmf.fit_sample(torch.rand(300, 8), 2)
        assert denormals_flushed()
        assert torch.get_num_threads() == 2
        """
    )
