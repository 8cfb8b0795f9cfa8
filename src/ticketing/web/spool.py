"""Long responses that wait for their client in a file, and not in the database."""

import asyncio
import os
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from tempfile import TemporaryFile
from typing import Final

PIECE: Final = 16 * 1024
"""Bytes that are read from the file at a time."""


async def spooled(blocks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Yield the blocks as slowly as they are taken, but take them as fast as they come.

    So a client that reads slowly holds a compressed file open, and no transaction. After each block
    it rests as long as the block took, so that other requests and the database have room. Raises
    what `blocks` raises, after everything that came before.
    """
    news, size = asyncio.Event(), 0
    # Whatever is in the file is in the page cache, so that writing and reading do not wait.
    with TemporaryFile() as file:

        async def fill() -> None:
            nonlocal size
            packing = zlib.compressobj(1)
            began = time.monotonic()
            try:
                async with aclosing(blocks):
                    async for block in blocks:
                        packed = packing.compress(block) + packing.flush(zlib.Z_SYNC_FLUSH)
                        file.seek(0, os.SEEK_END)
                        size += file.write(packed)
                        news.set()
                        await asyncio.sleep(time.monotonic() - began)
                        began = time.monotonic()
            finally:
                news.set()

        filling = asyncio.create_task(fill())
        unpacking, read = zlib.decompressobj(), 0
        try:
            while True:
                if read < size:
                    file.seek(read)
                    packed = file.read(PIECE)
                    read += len(packed)
                    if piece := unpacking.decompress(packed):
                        yield piece
                elif filling.done():
                    filling.result()
                    return
                else:
                    news.clear()
                    await news.wait()
        finally:
            filling.cancel()
            await asyncio.wait({filling})
