"""Output files: drawn when first asked for, gone after their expiry, spoiled on demand."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from devstack.emulator import spoiling
from devstack.emulator.answers import emulator_of, problem
from devstack.emulator.drawing.plan import PicturePlan, plan_picture
from devstack.emulator.faults import Fault
from devstack.emulator.predictions import Prediction

router = APIRouter()
_NAME = re.compile(r"^(?:out-(\d)\.jpg|output\.webm)$")
_PRIVATE_URL = "http://169.254.169.254/latest/meta-data/"


@router.api_route("/files/{prediction_id}/{name}", methods=["GET", "HEAD"])
async def get_file(request: Request, prediction_id: str, name: str) -> Response:
    emulator = emulator_of(request)
    prediction = emulator.stores["predictions"].get(prediction_id)
    match = _NAME.match(name)
    index = int(match[1] or 0) if match else -1
    if prediction is None or match is None or index >= prediction.outputs or prediction.video != (match[1] is None):
        return problem(404, "No such file")
    faults = emulator.file_faults(prediction, index)
    if Fault.EXPIRED_OUTPUT in faults or prediction.is_past(emulator.options.output_expiry_s, time.time()):
        emulator.counts.totals["files_expired"] += 1
        return problem(404, "The file has expired")
    if Fault.REDIRECTED_OUTPUT in faults:
        return Response(status_code=302, headers={"location": _PRIVATE_URL})
    if Fault.NOT_AN_IMAGE in faults:
        return Response(spoiling.PAGE, media_type="image/jpeg")
    content = await emulator.pictures.picture(_plan_of(prediction, index), prediction.video)
    emulator.counts.totals["files_served"] += 1
    media_type = "video/webm" if prediction.video else "image/jpeg"
    if Fault.CORRUPT_IMAGE in faults:
        content = spoiling.corrupted(content)
    if Fault.HUGE_IMAGE in faults and not prediction.video:
        content = spoiling.claimed_huge(content)
    if Fault.WRONG_CONTENT_TYPE in faults:
        media_type = "text/html"
    if Fault.SLOW_DOWNLOAD in faults:
        headers = {"content-length": str(len(content))}
        return StreamingResponse(_slowly(content, emulator.options.slow_download_s), 200, headers, media_type)
    return Response(content, media_type=media_type, headers={"cache-control": "private, max-age=3600"})


def _plan_of(prediction: Prediction, index: int) -> PicturePlan:
    seed = prediction.input.get("seed") or 0
    return plan_picture(str(prediction.input.get("prompt", "")), seed, index, prediction.size_px)


async def _slowly(content: bytes, pause_s: float) -> AsyncIterator[bytes]:
    yield content[: len(content) // 2]
    await asyncio.sleep(pause_s)
    yield content[len(content) // 2 :]
