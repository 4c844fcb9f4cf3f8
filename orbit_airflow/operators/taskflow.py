"""``@task.orbit_upload`` and ``@task.orbit_download``: the operators, with a function that says what to transfer.

The function runs first, on the worker. What it returns is taken to the letter: it is not rendered as a template, since
names of files and objects are often somebody else's.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION

from orbit_airflow.engine.errors import ConfigError
from orbit_airflow.engine.hints import did_you_mean
from orbit_airflow.operators.download import OrbitS3DownloadOperator
from orbit_airflow.operators.transfer import OrbitS3UploadOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

# Airflow has asked these of the operator before its function is called.
_TOO_LATE = frozenset({"self", "kwargs", "retry_policy"})


class _UploadDecoratedOperator(DecoratedOperator, OrbitS3UploadOperator):
    """OrbitS3UploadOperator whose function returns the file's path, or a mapping of the operator's arguments."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *OrbitS3UploadOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **OrbitS3UploadOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.orbit_upload"
    overwrite_rtif_after_execution = True

    def __init__(
        self, *, filename: Any = SET_DURING_EXECUTION, dest_key: Any = SET_DURING_EXECUTION, **kwargs: Any
    ) -> None:
        super().__init__(filename=filename, dest_key=dest_key, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask the function, then upload."""
        _take(self, _asked(self, context), OrbitS3UploadOperator, ("filename", "dest_key"))
        return OrbitS3UploadOperator.execute(self, context)


class _DownloadDecoratedOperator(DecoratedOperator, OrbitS3DownloadOperator):
    """OrbitS3DownloadOperator whose function returns the source's key, or a mapping of the operator's arguments."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *OrbitS3DownloadOperator.template_fields)
    custom_operator_name = "@task.orbit_download"
    overwrite_rtif_after_execution = True

    def __init__(
        self, *, source_key: Any = SET_DURING_EXECUTION, local_path: Any = SET_DURING_EXECUTION, **kwargs: Any
    ) -> None:
        super().__init__(source_key=source_key, local_path=local_path, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask the function, then download."""
        _take(self, _asked(self, context), OrbitS3DownloadOperator, ("source_key", "local_path"))
        return OrbitS3DownloadOperator.execute(self, context)


def _asked(operator: DecoratedOperator, context: Context) -> object:
    """What the function returns, called as ``@task`` calls one."""
    context_merge(context, operator.op_kwargs)
    kwargs = determine_kwargs(operator.python_callable, operator.op_args, context)
    return operator.python_callable(*operator.op_args, **kwargs)


def _take(operator: DecoratedOperator, answer: object, plain: type, required: tuple[str, str]) -> None:
    """Make the answer the operator's arguments; a text is the first ``required`` one. ConfigError for anything else,
    for a name that ``plain``, the operator without a function, does not have, and for what nobody has said.
    """
    if isinstance(answer, str | os.PathLike):
        answer = {required[0]: os.fspath(answer)}
    if not isinstance(answer, Mapping):
        raise ConfigError(
            f"the function returns {required[0]}, or a mapping of the operator's arguments, and not "
            f"{type(answer).__name__}"
        )
    known = set(inspect.signature(plain).parameters) - _TOO_LATE
    for name, value in answer.items():
        if name not in known:
            raise ConfigError(f"the function returned an unknown argument {name!r}{did_you_mean(str(name), known)}")
        setattr(operator, name, os.fspath(value) if isinstance(value, os.PathLike) else value)
    for name in required:
        if getattr(operator, name) is SET_DURING_EXECUTION:
            raise ConfigError(f"{name} is missing: neither the decorator nor its function says it")


def orbit_upload_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """``@task.orbit_upload(dest_key=..., ...)``: upload the file whose path the function returns.

    ``kwargs`` are arguments of OrbitS3UploadOperator (templated as there) and of Airflow. The function returns the
    path, or a mapping of the operator's arguments, which win. The task's result is the operator's.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_UploadDecoratedOperator,
        **kwargs,
    )


def orbit_download_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """``@task.orbit_download(local_path=..., ...)``: download the object whose key or ``s3://`` address the function
    returns.

    ``kwargs`` are arguments of OrbitS3DownloadOperator (templated as there) and of Airflow. The function returns the
    source_key, or a mapping of the operator's arguments, which win. The task's result is the operator's.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_DownloadDecoratedOperator,
        **kwargs,
    )
