"""The states of all images of a job in few bytes, and everything about one image."""

from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Query

from img2img_gateway.access import Caller, Principal
from img2img_gateway.dependencies import Services, ServicesDep
from img2img_gateway.v1.api_model import ApiModel
from img2img_gateway.v1.examples import JOB, REFERENCE, example
from img2img_gateway.v1.job_answers import ImageAnswer
from img2img_gateway.v1.request_fields import Index, JobId, Start
from img2img_shared.errors import NotFound, StoreError
from img2img_shared.farm.originals import read_inputs, with_names
from img2img_shared.job import ImageState, picture_digest, result_key
from img2img_shared.picture_texts import read_texts

router = APIRouter(prefix="/jobs", tags=["jobs"])

#: images whose states one call tells at most
STATES = 100_000


class StateList(ApiModel):
    """The states of images by index, run-length encoded: a state, and how many in a row have it."""

    model_config = example(
        {"runs": [["done", 33], ["failed", 1], ["running", 8], ["pending", 58]], "next": None}
    )

    runs: list[tuple[ImageState, int]]
    next: int | None
    """`start` of the next page; null: this is the last."""


class ImageDetails(ApiModel):
    """An image, and what it is made from."""

    model_config = example(
        {
            "image": {
                "index": 0,
                "state": "done",
                "attempt": 1,
                "reason": None,
                "input": 0,
                "name": "harbour",
            },
            "job": JOB,
            "pictures": {"image": REFERENCE},
            "params": {"prompt": "an oil painting", "steps": 20, "seed": 7},
            "infotext": "an oil painting\nSteps: 20, Sampler: Euler a, Seed: 7",
        }
    )

    image: ImageAnswer
    job: str
    pictures: dict[str, str]
    """Keys by role; a later job of yours may name them as its pictures."""
    params: dict[str, Any]
    """The image's own, with its seed; parameters that have their default are left out."""
    infotext: str | None
    """From its picture's file; null: the image is not done, or its picture is not kept any more."""


@router.get("/{job}/states", summary="Get the states of all images")
async def states(
    job: JobId,
    caller: Caller,
    services: ServicesDep,
    start: Start = 0,
    limit: Annotated[int, Query(ge=1, le=STATES)] = STATES,
) -> StateList:
    """The state of each image of a job, run-length encoded: few bytes, however many images there are."""
    found = await services.farm.call(services.farm.ledger.job, job, caller.tenant)
    wanted = range(min(start, found.n), min(start + limit, found.n))

    def runs() -> list[tuple[ImageState, int]]:
        images = services.farm.service.images(found, wanted)
        return [(state, sum(1 for _ in run)) for state, run in groupby(images, key=lambda image: image.state)]

    return StateList(runs=await services.farm.call(runs), next=wanted.stop if wanted.stop < found.n else None)


@router.get("/{job}/images/{index}/details", summary="Get an image's details")
async def details(job: JobId, index: Index, caller: Caller, services: ServicesDep) -> ImageDetails:
    """An image with its pictures, its parameters and its seed and, once it is done, its infotext."""
    return await services.farm.call(_details, services, caller, job, index)


def _details(services: Services, caller: Principal, job_id: str, index: int) -> ImageDetails:
    farm = services.farm
    job = farm.ledger.job(job_id, caller.tenant)
    if index >= job.n:
        raise NotFound(f"job {job_id} has no image {index}")
    (image,) = with_names(farm.store, job, farm.ledger.images(job_id, caller.tenant, index, 1))
    at, _ = job.output(index)
    (item,) = read_inputs(farm.store, job, range(at, at + 1))
    seed, subseed = job.seeds(index, item)
    own = job.params_of(item)
    unused = set() if own.subseed_strength else {"subseed"}
    params = own.model_dump(mode="json", exclude_defaults=True, exclude=unused) | {"seed": seed}
    return ImageDetails(
        image=ImageAnswer.of(image),
        job=job_id,
        pictures={role: f"inputs/{picture_digest(key)}" for role, key in job.pictures_of(item).items()},
        params=params if unused else params | {"subseed": subseed},
        infotext=_infotext(services, job.params.output_format, job_id, index)
        if image.state is ImageState.DONE
        else None,
    )


def _infotext(services: Services, kind: str, job_id: str, index: int) -> str | None:
    try:
        data = services.farm.store.get(result_key(job_id, index, kind))
    except StoreError as error:
        if not error.missing:
            raise
        return None
    return read_texts(data).get("parameters")
