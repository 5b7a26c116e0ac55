"""The contact sheet: one PNG of the newest pictures, drawn again when there are new ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.blobs import open_blobs
from cli.demo_tally import Finished, Tally
from models.errors import Unavailable
from streams.settings import Settings

PICTURES_MAX = 24
COLUMNS = 6
REFRESH_S = 3.0


class ContactSheet:
    """Writes `path` from thumbnails in the blob store."""

    def __init__(self, settings: Settings) -> None:
        self.path: Path = settings.home.absolute() / "contact-sheet.png"
        self._blobs = open_blobs(settings.blob_location)
        self._images_url = settings.images_url
        self._drawn: list[str] = []
        self._thumbnails: dict[str, bytes] = {}

    async def refresh(self, tally: Tally) -> bool:
        """Draw the newest pictures if they are others than last time; whether it did. Raises Unavailable, OSError."""
        newest = [(finished, image) for finished in tally.newest for image in finished.images][:PICTURES_MAX]
        keys = [image["thumbnail_url"].removeprefix(self._images_url) for _, image in newest]
        if keys == self._drawn:
            return False
        known, self._thumbnails = self._thumbnails, {}
        for key in keys:
            self._thumbnails[key] = known.get(key) or await self._blobs.get(key) or b""
        pictures = [
            (self._thumbnails[key], _caption(finished)) for key, (finished, _) in zip(keys, newest, strict=True)
        ]
        await asyncio.to_thread(self._draw, pictures)
        self._drawn = keys
        return True

    async def keep_fresh(self, tally: Tally) -> None:
        """Refresh every few seconds until cancelled; a store that is away for a while only makes it stale."""
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh(tally)
            except (Unavailable, OSError):
                continue

    def _draw(self, pictures: list[tuple[bytes, str]]) -> None:
        from devstack.contact_sheet import draw_contact_sheet

        # Whoever looks while it is written sees the one before.
        draft = self.path.with_suffix(".draft")
        draft.write_bytes(draw_contact_sheet(pictures, COLUMNS))
        draft.replace(self.path)


def _caption(finished: Finished) -> str:
    return f"{finished.prompt}\n{finished.user_id}, {finished.took_ms} ms"
