"""What every specification shares: the base class, kinds of numbers, and one-line errors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qrl.errors import InputError, nearest

PositiveInt = Annotated[int, Field(ge=1, strict=True)]
NonNegativeInt = Annotated[int, Field(ge=0, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0.0, le=10.0, allow_inf_nan=False)]
Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,79}$")]


class Spec(BaseModel):
    """Base of all specifications: immutable, strict about unknown keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _a_bool_is_no_number(cls, data: Any) -> Any:
        # pydantic's lax mode would turn true into 1.0; a recipe that says `learning_rate = true` is a mistake.
        if isinstance(data, dict):
            for key, value in data.items():
                if (
                    isinstance(value, bool)
                    and key in cls.model_fields
                    and cls.model_fields[key].annotation is not bool
                ):
                    raise InputError(key, str(value).lower(), "is a boolean", "write a number or a text here")
        return data


def input_error(error: ValidationError) -> InputError:
    """Turn pydantic's report into our one-line error (the first problem, and how many more there are)."""
    problems = error.errors()
    first, more = problems[0], len({_path(problem["loc"]) for problem in problems}) - 1
    if isinstance(first["input"], str):
        # "a number or one of these words" was given another word: the words are what helps
        beside = (p for p in problems if p["loc"][:-1] == first["loc"][:-1] and p["type"] == "literal_error")
        first = next(beside, first)
    path = _path(first["loc"])
    rest = f" ({more} more problem{'s' if more > 1 else ''} in this input)" if more else ""
    kind = first["type"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return InputError(
            _path((*_outer(first["loc"], cause.field), cause.field)), cause.value, cause.why, cause.fix + rest
        )
    if kind == "extra_forbidden":
        return InputError(path, first["loc"][-1], "is not a known key", _known_keys(first) + rest)
    if kind == "missing":
        return InputError(path, "nothing", "is given here", "this key is needed" + rest)
    if kind in ("union_tag_invalid", "literal_error"):
        expected = first["ctx"].get("expected_tags") or first["ctx"].get("expected", "")
        known = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
        tag = first["ctx"].get("tag", first["input"])
        discriminator = str(first["ctx"].get("discriminator", "")).strip("'")
        field = f"{path}.{discriminator}".strip(".") if discriminator else path
        return InputError(field, tag, "is not known", nearest(str(tag), known) + rest)
    if kind == "union_tag_not_found":
        field = f"{path}.{str(first['ctx']['discriminator']).strip(chr(39))}".strip(".")
        return InputError(field, "nothing", "is given here", "this key is needed" + rest)
    why = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    why = why[0].lower() + why[1:]
    return InputError(path, first["input"], f"cannot be used: {why}", "change this value" + rest)


_MODELS: dict[str, Any] = {}
"""Models by the name under which a path shows them: keys of tables and tags of unions."""
_TAGS: set[str] = set()
"""Tags of discriminated unions, which pydantic puts into the path; a recipe's author never wrote them there."""


def register_model(name: str, model: Any, *, tag: bool = False) -> None:
    """Make the keys of a further table known to the error messages; ``tag``: it is one of a discriminated union."""
    _MODELS[name] = model
    if tag:
        _TAGS.add(name)


def _outer(loc: tuple[int | str, ...], field: str) -> tuple[int | str, ...]:
    """Where the checked model stands: the path without the tag or field name that the cause names itself."""
    return loc[:-1] if loc and (loc[-1] in _TAGS or loc[-1] == field.split(".")[0]) else loc


def _path(loc: tuple[int | str, ...]) -> str:
    last = len(loc) - 1
    parts = [
        str(p)
        for i, p in enumerate(loc)
        if not (0 < i < last and p in _TAGS)
        and "-" not in str(p)
        and not (i == last > 0 and _names_an_alternative(str(p)))
    ]
    if len(parts) > 1 and parts[0] in _TAGS:
        parts = parts[1:]
    return ".".join(parts) or "input"


def _names_an_alternative(part: str) -> bool:
    """Whether the end of a path is pydantic's name for one alternative of a field."""
    return part.startswith("literal[") or part in ("float", "int")


def _known_keys(problem: Any) -> str:
    """Suggest the nearest key of the model in which the unknown one stands."""
    tags = [p for p in problem["loc"][:-1] if isinstance(p, str)]
    for name in reversed(tags):
        model = _MODELS.get(name)
        if model is not None:
            return nearest(str(problem["loc"][-1]), model.model_fields)
    return (
        nearest(str(problem["loc"][-1]), _MODELS["recipe"].model_fields)
        if "recipe" in _MODELS
        else "remove it"
    )
