"""Clients that submit until they are stopped, and record by themselves what was acknowledged."""

import base64
import random
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from img2img_producer import Farm
from img2img_shared.errors import StoreError, Unavailable
from img2img_shared.settings import Settings
from tests.faults.soak.recipes import Recipe, Recipes

#: seconds between two submissions of a client, and before it repeats a request
PACE, AGAIN = (0.5, 3.0), 0.1
#: seconds that an HTTP client waits for an answer
PATIENCE = 120
#: status codes of answers that ask to try again
LATER = (408, 503)


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """A job that was acknowledged to a client."""

    job: str
    recipe: Recipe
    inputs: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A picture that a synchronous call was answered with."""

    recipe: Recipe
    input: bytes
    picture: bytes


@dataclass(kw_only=True)
class Account:
    """What the clients know. Lists only grow, so that any thread may read them."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    #: number of requests that were repeated, by client
    refused: Counter[str] = field(default_factory=Counter)
    #: answers that only a fault can explain, with what they said
    failures: list[str] = field(default_factory=list)
    #: what no fault explains
    errors: list[str] = field(default_factory=list)


class Client(ABC, threading.Thread):
    """A client, in a thread of its own."""

    def __init__(self, account: Account, recipes: Recipes, seed: int) -> None:
        super().__init__(daemon=True)
        self._account = account
        self._recipes = recipes
        self._chance = random.Random(seed)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Begin nothing more. Requests under way are repeated until they are answered."""
        self._stopped.set()

    def run(self) -> None:
        """Submit until stopped, or until something happens that no fault explains."""
        try:
            with self._connected():
                while not self._stopped.wait(self._chance.uniform(*PACE)):
                    self._submit()
        except Exception as error:
            self._account.errors.append(f"{type(self).__name__} ended: {error!r}")

    @abstractmethod
    def _submit(self) -> None:
        """Submit something, and write down what is acknowledged."""

    @contextmanager
    def _connected(self) -> Iterator[None]:
        yield

    def _again(self) -> None:
        self._account.refused[type(self).__name__] += 1
        threading.Event().wait(AGAIN)

    def _key(self) -> str:
        return f"{self._chance.getrandbits(64):x}"


class PythonClient(Client):
    """Submits as another service does, by `Farm`."""

    def __init__(self, account: Account, recipes: Recipes, seed: int, settings: Settings, model: str) -> None:
        super().__init__(account, recipes, seed)
        self._settings = settings
        self._model = model

    @contextmanager
    def _connected(self) -> Iterator[None]:
        while True:
            try:
                self._farm = Farm(settings=self._settings)
            except (Unavailable, StoreError):
                self._again()
            else:
                break
        with self._farm:
            yield

    def _submit(self) -> None:
        recipe, inputs, key = (
            self._recipes.recipe(self._chance),
            self._recipes.inputs(self._chance),
            self._key(),
        )
        priority = self._chance.randint(-2, 2)
        while True:
            try:
                job = self._farm.submit(
                    inputs,
                    model=self._model,
                    params=recipe.params(),
                    priority=priority,
                    idempotency_key=key,
                )
            except (Unavailable, StoreError):
                self._again()
            else:
                self._account.acknowledged.append(Acknowledged(job=job, recipe=recipe, inputs=tuple(inputs)))
                return


class HttpClient(Client):
    """Calls any of several gateways."""

    def __init__(
        self, account: Account, recipes: Recipes, seed: int, urls: Sequence[str], key: str, model: str
    ) -> None:
        super().__init__(account, recipes, seed)
        self._urls = urls
        self._model = model
        self._http = httpx.Client(headers={"X-API-Key": key}, timeout=PATIENCE)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        with self._http:
            yield

    def _answer(self, call: Callable[[str], httpx.Response]) -> httpx.Response | None:
        """The answer of one of the gateways; None: the request is to be repeated."""
        try:
            answer = call(self._chance.choice(self._urls))
        except httpx.TransportError:
            return None
        return None if answer.status_code in LATER else answer


class UploadClient(HttpClient):
    """Submits jobs by ``POST /v1/jobs/upload``."""

    def _submit(self) -> None:
        recipe, inputs, key = (
            self._recipes.recipe(self._chance),
            self._recipes.inputs(self._chance),
            self._key(),
        )
        fields = {"model": self._model, **{name: str(value) for name, value in recipe.params().items()}}
        files = [("image", (f"{index}.png", data)) for index, data in enumerate(inputs)]
        headers = {"Idempotency-Key": key}
        while True:
            answer = self._answer(
                lambda url: self._http.post(
                    f"{url}/v1/jobs/upload", data=fields, files=files, headers=headers
                )
            )
            if answer is None:
                self._again()
            elif answer.status_code in (200, 201):
                job = str(answer.json()["id"])
                self._account.acknowledged.append(Acknowledged(job=job, recipe=recipe, inputs=tuple(inputs)))
                return
            else:
                self._account.failures.append(f"upload: {answer.status_code}: {answer.text[:300]}")
                self._again()


class SynchronousClient(HttpClient):
    """Renders by A1111's ``img2img``, one picture per call."""

    def _submit(self) -> None:
        recipe, picture = self._recipes.recipe(self._chance), self._recipes.picture(self._chance)
        body = recipe.a1111(picture)
        answer = self._answer(lambda url: self._http.post(f"{url}/sdapi/v1/img2img", json=body))
        if answer is None:
            self._again()
            return
        images = answer.json().get("images")
        if images:  # with one, a call that failed late has status 200 as well
            data = base64.b64decode(images[0])
            self._account.answered.append(Answered(recipe=recipe, input=picture, picture=data))
        else:
            self._account.failures.append(f"img2img: {answer.status_code}: {answer.text[:300]}")
