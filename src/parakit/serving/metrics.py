"""Counts for Prometheus: requests and tokens by model, times to the first token and between tokens, and the engines' state."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from parakit.serving.generation.generation import Generation
from parakit.serving.generation.service import GenerationService, MeteredWork

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_GAUGES = {  # of the engine's statistics
    "n_running": ("parakit_running", "Completions that run."),
    "n_waiting": ("parakit_waiting", "Completions that wait."),
    "n_pages": ("parakit_cache_pages", "Pages of the cache."),
    "n_pages_used": ("parakit_cache_pages_used", "Pages that running completions hold."),
    "n_pages_cached": ("parakit_cache_pages_cached", "Pages that nobody holds and that can be used again."),
    "n_preempted": ("parakit_preempted", "Completions that gave up their pages and were computed again."),
    "memory_bytes": ("parakit_cache_bytes", "Memory of the cache."),
}


class ServerMetrics:
    """What `/metrics` reports of one server."""

    def __init__(self, service: GenerationService, registry: CollectorRegistry) -> None:
        names = ["model"]
        self._requests = Counter(
            "parakit_requests",
            "Generations and embeddings that ended.",
            ["model", "outcome"],
            registry=registry,
        )
        self._prompt = Counter("parakit_prompt_tokens", "Tokens of prompts.", names, registry=registry)
        self._cached = Counter(
            "parakit_cached_tokens", "Tokens of prompts that the cache held.", names, registry=registry
        )
        self._completion = Counter("parakit_completion_tokens", "Generated tokens.", names, registry=registry)
        self._first = Histogram(
            "parakit_first_token_seconds",
            "From submission to the first token.",
            names,
            registry=registry,
            buckets=SECONDS,
        )
        self._between = Histogram(
            "parakit_token_seconds",
            "Between tokens, mean of a generation.",
            names,
            registry=registry,
            buckets=TOKEN_SECONDS,
        )
        self._seconds = Histogram(
            "parakit_request_seconds",
            "Of whole generations and embeddings.",
            names,
            registry=registry,
            buckets=SECONDS,
        )
        registry.register(_Engines(service))
        service.on_end.append(self.count)
        service.on_work.append(self.count_request)

    def count_request(self, ended: Generation | MeteredWork) -> None:
        """A request has ended: its outcome, tokens and time."""
        model, usage = ended.call.model, ended.usage
        self._requests.labels(model, ended.outcome).inc()
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._completion.labels(model).inc(usage.completion_tokens)
        self._seconds.labels(model).observe(ended.seconds)

    def count(self, generation: Generation) -> None:
        """A generation has ended."""
        self.count_request(generation)
        model, usage = generation.call.model, generation.usage
        first = generation.seconds_to_first_token
        if first is not None:
            self._first.labels(model).observe(first)
            n_later = usage.completion_tokens // generation.call.n - 1
            if n_later > 0:
                self._between.labels(model).observe((generation.engine_seconds - first) / n_later)


class _Engines(Collector):
    """The state of each loaded engine, read when it is wanted."""

    def __init__(self, service: GenerationService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        gauges = {field: GaugeMetricFamily(*named, labels=["model"]) for field, named in _GAUGES.items()}
        loaded = self._service.registry.loaded
        for served in loaded:
            if served.engine is not None:
                statistics = served.engine.statistics
                for field, gauge in gauges.items():
                    gauge.add_metric([served.name], getattr(statistics, field))
        yield from gauges.values()
        yield GaugeMetricFamily("parakit_models_loaded", "Models in memory.", value=len(loaded))
        yield GaugeMetricFamily(
            "parakit_requests_running", "Generations that have not ended.", value=len(self._service.running)
        )
