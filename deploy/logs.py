"""Logs: JSON lines on stderr, never a name, a payload or a secret."""

import logging
import sys

import structlog
from prometheus_client import disable_created_metrics


def configure(process: str) -> None:
    """Set up structlog for one process; every line names it."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format='{"event":"%(message)s","logger":"%(name)s"}')
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.configure(processors=[_process(process), *structlog.get_config()["processors"]])


def _process(name: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = name
        return event

    return add
