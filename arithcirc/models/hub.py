"""The Hugging Face hub and the libraries that read it: kept quiet, kept offline if asked, their errors in one line.

A token is taken by huggingface_hub itself from HF_TOKEN or from `hf auth login`; it is never an argument here, and any
text of theirs that reaches an error of ours has tokens removed. Who is at fault decides the class: an unknown name or
revision, a licence that was not accepted or a file missing from the cache is a ModelError (exit code 2); a hub that
cannot be reached, a full disk or too little memory is an EnvironmentFailure (exit code 1).
"""

import contextlib
import errno
import io
import logging
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from arithcirc.errors import ArithcircError, EnvironmentFailure, ModelError
from arithcirc.models.architectures import supported
from arithcirc.models.memory import free_bytes, gigabytes
from arithcirc.models.zoo import Located

_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
_CONVERSION = "DISABLE_SAFETENSORS_CONVERSION"
_TOO_MANY, _SERVER_FAULT = 429, 500
_LOUD = ("huggingface_hub", "accelerate")
_NO_MEMORY = "Cannot allocate memory"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries' progress bars and advice stay out of our output; their errors become ours."""
    from transformers.utils import logging as hf_logging

    log: Any = hf_logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    loggers = [logging.getLogger(), *map(logging.getLogger, _LOUD)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            log.enable_progress_bar()


@contextlib.contextmanager
def reading_only(*, offline: bool) -> Iterator[None]:
    """The hub is only read meanwhile; with `offline` every request to it fails, whoever makes it.

    transformers would else ask a service, in the user's name, to convert pickled weights it meets.
    """
    from huggingface_hub import constants

    before, converts = constants.HF_HUB_OFFLINE, os.environ.get(_CONVERSION)
    constants.HF_HUB_OFFLINE = before or offline
    os.environ[_CONVERSION] = "1"
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        if converts is None:
            del os.environ[_CONVERSION]
        else:
            os.environ[_CONVERSION] = converts


@contextlib.contextmanager
def explained(located: Located, what: str) -> Iterator[None]:
    """One line, of the class that says who is at fault, for every way a hub or a folder can fail us."""
    try:
        yield
    except ArithcircError:
        raise
    except MemoryError as error:
        raise _does_not_fit(error, located) from error
    except torch.OutOfMemoryError as error:
        raise EnvironmentFailure(
            f"not enough memory to load {located.name}: use --dtype bfloat16 or a bigger machine"
        ) from error
    except Exception as error:
        raise _in_words(error, located, what) from None


def _in_words(error: BaseException, located: Located, what: str) -> ArithcircError:
    if any(isinstance(e, OSError) and e.errno == errno.ENOSPC for e in _chain(error)):
        return EnvironmentFailure(
            f"the disk is full while fetching the {what} of {located.name}: free some space, or give a --cache-dir"
        )
    denied = [e for e in _chain(error) if isinstance(e, OSError) and e.errno in (errno.EACCES, errno.EROFS)]
    if denied:
        return EnvironmentFailure(
            f"no permission for {denied[0].filename or 'a file'}, needed for the {what} of {located.name}: allow it, "
            "or give a --cache-dir that can be written"
        )
    if any(_NO_MEMORY in str(e) or getattr(e, "errno", None) == errno.ENOMEM for e in _chain(error)):
        return _does_not_fit(error, located)
    if (unknown := _unknown_type(str(error), located)) is not None:
        return unknown
    if not located.local and (failure := _hub_failure(error, located, what)) is not None:
        return failure
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = textwrap.shorten(without_tokens((lines or [type(error).__name__])[0]), 200, placeholder=" ...")
    where = "in that folder" if located.local else "on the Hugging Face hub or in the local cache"
    hub = "check the name and revision ('arithcirc models' lists known ones)"
    advice = "copy the folder again, or choose another" if located.local else hub
    return ModelError(f"cannot load the {what} of {located.name} ({located.revision}) {where}: {reason} - {advice}")


def _does_not_fit(error: BaseException, located: Located) -> EnvironmentFailure:
    """Memory that could not be had, beside the size of the file that was being mapped (else of all weights)."""
    mapped = re.search(r"mmap (\d+) bytes", " ".join(map(str, _chain(error))))
    folder = Path(located.source).glob("*.safetensors") if located.local else ()
    size = int(mapped[1]) if mapped else sum(file.stat().st_size for file in folder)
    has = f"its weights{' file has' if mapped else ' have'} {gigabytes(size)} and " if size else ""
    return EnvironmentFailure(
        f"{located.name} does not fit: {has}{gigabytes(_free())} of memory are free: free some, raise the limit set by "
        "'ulimit -v' or of the container, or use a smaller model or a bigger machine"
    )


def _free() -> int:
    """Bytes free for this process: of the machine or its control group, within the limit on addresses (ulimit -v)."""
    free = free_bytes("cpu")
    with contextlib.suppress(ImportError):  # no such limit on Windows
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            free = min(free, max(0, limit - int(psutil.Process().memory_info().vms)))
    return free


def _unknown_type(said: str, located: Located) -> ModelError | None:
    """A config.json of a class that transformers does not have: unknown, or in code of its author."""
    if (kind := re.search(r"model type `([^`]*)` but Transformers does not recognize", said)) is not None:
        return ModelError(
            f"{located.name}: model type {kind[1]!r} is unknown to transformers; supported are {supported()}"
        )
    if "Should have a `model_type` key" in said:
        return ModelError(f"{located.name}: its config.json gives no model_type; supported are {supported()}")
    if "trust_remote_code" in said:
        return ModelError(
            f"{located.name} needs code of its author, which is never run: choose a model of a class in transformers; "
            f"supported are {supported()}"
        )
    return None


def _hub_failure(error: BaseException, located: Located, what: str) -> ArithcircError | None:
    """What huggingface_hub's own error, anywhere in the chain of causes, means for the user."""
    from huggingface_hub import constants, errors

    chain, name = list(_chain(error)), located.name

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(e, kinds) for e in chain)

    status = next((e.response.status_code for e in chain if isinstance(e, errors.HfHubHTTPError)), 0)
    if caused_by(errors.GatedRepoError) or status == 403:
        return ModelError(
            f"{name} is gated: accept its licence on the model's page on the hub, then set HF_TOKEN to a token of that "
            "account (or run 'hf auth login')"
        )
    if caused_by(errors.RevisionNotFoundError):
        return ModelError(f"{name} has no revision {located.revision!r} on the hub: the model's page lists them")
    if caused_by(errors.RepositoryNotFoundError) or status == 401:
        return ModelError(
            f"the hub has no model {name}, or it is private: check the name ('arithcirc models' lists known ones), or "
            "set HF_TOKEN to a token that may read it"
        )
    as_safetensors = " as safetensors" if what == "weights" else ""
    if constants.HF_HUB_OFFLINE and isinstance(error, OSError):
        return ModelError(
            f"the local cache lacks the {what} of {name} ({located.revision}){as_safetensors}, and the network is off "
            "(--offline or HF_HUB_OFFLINE): check the name and --cache-dir, then run the same command once with the "
            "network on"
        )
    if "cannot be loaded with `safetensors`" in str(error):
        return pickled_only(located)
    http_error: Any = errors.HfHubHTTPError.__mro__[1]  # the HTTP client's own
    no_answer = caused_by(errors.LocalEntryNotFoundError, ConnectionError, TimeoutError, http_error) and not status
    if no_answer or status == _TOO_MANY or status >= _SERVER_FAULT:
        answer = f" (it answered {status})" if status else ""
        return EnvironmentFailure(
            f"the Hugging Face hub cannot be reached{answer} for the {what} of {name}, which is not in the local "
            "cache: check the network and try again, or copy the model's folder here and give its path"
        )
    return None


def pickled_only(located: Located) -> ModelError:
    """A revision without safetensors is refused."""
    name = located.name
    return ModelError(
        f"{name} has no safetensors at revision {located.revision}, only pickled weights, which can run code and are "
        "refused: choose another revision, or give a folder to which you converted them where you trust them: "
        f"AutoModelForCausalLM.from_pretrained({name!r}, revision={located.revision!r}).save_pretrained(folder), "
        "and the same for AutoTokenizer"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, and what was being handled when it was raised."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def without_tokens(text: str) -> str:
    """The text without any access token: those of the environment, and anything that looks like one."""
    for token in filter(None, map(os.environ.get, _TOKENS)):
        text = text.replace(token, "***")
    return re.sub(r"\bhf_[A-Za-z0-9]{10,}\b|(?i:bearer )\S+", "***", text)
