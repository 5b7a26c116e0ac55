"""Output files over HTTP."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import replicate
from PIL import Image

from tests.emulator.helpers import WEB, client_of, finished


def pictures_of(client: replicate.Client, **input: object) -> list[bytes]:
    done = finished(client, client.predictions.create(version="abc", input=input))
    answers = [WEB.get(url, timeout=10) for url in done.output]
    assert all(answer.headers["content-type"] == "image/jpeg" for answer in answers)
    return [answer.content for answer in answers]


@pytest.mark.parametrize(
    ("aspect_ratio", "size"), [("1:1", (256, 256)), ("4:5", (204, 256)), ("16:9", (256, 144)), ("9:16", (144, 256))]
)
def test_a_picture_has_the_size_asked_for(client: replicate.Client, aspect_ratio: str, size: tuple[int, int]) -> None:
    content = pictures_of(client, prompt="calm hills", aspect_ratio=aspect_ratio)[0]
    picture = Image.open(io.BytesIO(content))
    picture.load()
    assert (picture.format, picture.size) == ("JPEG", size)


def test_pictures_are_768_pixels_long_unless_set(start: Callable[..., str]) -> None:
    content = pictures_of(client_of(start(long_side_px=768)), prompt="calm hills", aspect_ratio="4:5")[0]
    assert Image.open(io.BytesIO(content)).size == (614, 768)


def test_the_same_prompt_and_seed_give_the_same_picture_from_any_emulator(
    client: replicate.Client, start: Callable[..., str]
) -> None:
    other = client_of(start(cache_bytes_max=0))
    first = pictures_of(client, prompt="misty hills", seed=3)
    assert first == pictures_of(other, prompt="misty hills", seed=3)
    assert first != pictures_of(client, prompt="misty hills", seed=4)
    assert first != pictures_of(client, prompt="foggy hills", seed=3)


def test_the_outputs_of_a_set_differ(client: replicate.Client) -> None:
    assert len(set(pictures_of(client, prompt="misty hills", num_outputs=4))) == 4


def test_a_bench_may_draw_few_pictures_and_still_gets_different_files(start: Callable[..., str]) -> None:
    url = start(distinct_pictures=2)
    contents = [pictures_of(client_of(url), prompt=f"hill {number}")[0] for number in range(8)]
    assert len(set(contents)) == 8
    assert len({Image.open(io.BytesIO(content)).tobytes() for content in contents}) == 2
    assert WEB.get(f"{url}/emulator/counts").json()["totals"]["files_drawn"] == 2


def test_files_that_are_not_outputs_are_not_found(client: replicate.Client, emulator: str) -> None:
    done = finished(client, client.predictions.create(version="abc", input={"prompt": "calm hills"}))
    for path in (f"{done.id}/out-1.jpg", f"{done.id}/output.webm", f"{done.id}/x", "nobody/out-0.jpg"):
        assert WEB.get(f"{emulator}/files/{path}").status_code == 404


def test_a_video_model_gives_one_webm_file(client: replicate.Client) -> None:
    made = client.models.predictions.create(
        model="acme/video-maker", input={"prompt": "sunset over the sea", "aspect_ratio": "16:9"}
    )
    done = finished(client, made)
    answer = WEB.get(done.output, timeout=10)
    assert answer.headers["content-type"] == "video/webm"
    assert answer.content[:4] == bytes.fromhex("1a45dfa3")
    assert answer.content.count(b"\x9d\x01\x2a") >= 16  # the start code of a VP8 key frame


def test_file_urls_carry_the_address_the_client_used_or_the_one_set(start: Callable[..., str]) -> None:
    url = start()
    by_name = client_of(url.replace("127.0.0.1", "localhost"))
    done = finished(by_name, by_name.predictions.create(version="abc", input={"prompt": "x"}))
    assert done.output[0].startswith("http://localhost:")
    public = client_of(start(public_url="http://files.example/"))
    done = finished(public, public.predictions.create(version="abc", input={"prompt": "x"}))
    assert done.output[0].startswith("http://files.example/files/")
