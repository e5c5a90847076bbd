"""Requests: several completions, streams, cancellation, failures, fairness, bounds; each with the tokens of its lone run."""

from __future__ import annotations

import threading

import pytest
import torch

from parakit.common.errors import UserError
from parakit.common.seeds import rng
from parakit.inference.config import SamplingConfig
from parakit.inference.engine import Engine, EngineConfig, Request
from parakit.inference.generation.decoding import generate_choices, generate_ids
from parakit.inference.generation.text import generate
from parakit.model.adapters import AdapterSet, LoraConfig, PrefixConfig, make_lora, make_prefix
from tests.inference.conftest import TINY, build_model

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=6)
SMALL = EngineConfig(page_size=4, max_rows=4, max_step_tokens=16)
WARM = SamplingConfig(temperature=1.3, max_new_tokens=8)


def prompts(n: int, longest: int = 20) -> list[list[int]]:
    generator = rng(2, "requests")
    return [generator.integers(0, 97, length).tolist() for length in generator.integers(1, longest, n)]


def ids(handle) -> list[list[int]]:
    return [list(completion.token_ids) for completion in handle.completions]


def is_empty(engine: Engine) -> bool:
    statistics = engine.statistics
    return statistics.n_pages_used == statistics.n_running == statistics.n_waiting == 0


def test_completions_of_one_prompt_share_it_and_are_those_of_lone_requests(model64):
    prompt, seeds = prompts(1)[0] + [5] * 9, [3, 1, 4, 15, 9]
    for max_rows in (3, 8):  # in 3 rows two of the five wait, and find the prompt's pages
        engine = Engine(model64, config=SMALL.replace(max_rows=max_rows))
        handle = engine.submit(Request(token_ids=prompt, sampling=WARM, n=5, seed=seeds))
        engine.step()
        engine.step()
        assert engine.statistics.n_pages_shared > 0
        engine.run()
        assert ids(handle) == generate_ids(model64, [prompt] * 5, WARM, seeds=seeds)
        assert ids(handle) == [generate_ids(model64, [prompt], WARM, seeds=[seed])[0] for seed in seeds]
        assert is_empty(engine)
    assert engine.statistics.n_prompt_tokens == len(prompt)


def test_rows_with_settings_of_their_own_share_steps(model64):
    settings = [GREEDY, WARM, WARM.replace(top_k=5), GREEDY.replace(repetition_penalty=1.5, max_new_tokens=9)]
    engine, some = Engine(model64, config=SMALL), prompts(4)
    handles = [
        engine.submit(Request(token_ids=prompt, sampling=one, seed=7))
        for prompt, one in zip(some, settings, strict=True)
    ]
    engine.run()
    for handle, prompt, one in zip(handles, some, settings, strict=True):
        assert ids(handle) == generate_ids(model64, [prompt], one, seeds=[7])


def test_texts_are_those_of_generate_and_pieces_join_to_them(tiny_chat_model):
    model, tokenizer = tiny_chat_model
    engine = Engine(model, tokenizer, SMALL)
    texts = ["the bird", "a tree", [{"role": "user", "content": "12 eggs"}]]
    config = GREEDY.replace(max_new_tokens=12)
    handles = [engine.submit(Request(prompt=text, sampling=config)) for text in texts]
    streamed = ["".join(piece.text for piece in engine.stream(handle)) for handle in handles]
    for text, handle, shown in zip(texts, handles, streamed, strict=True):
        alone = generate(model, tokenizer, text, config)
        [completion] = handle.completions
        assert shown == completion.text == alone.text
        assert (completion.token_ids, completion.finish_reason) == (alone.token_ids, alone.finish_reason)
        assert completion.n_prompt_tokens == alone.n_prompt_tokens
    stop = engine_text = handles[0].completions[0].text[1:3]
    cut = engine.submit(Request(prompt=texts[0], sampling=config.replace(stop=(stop,))))
    engine.run()
    assert engine_text not in cut.completions[0].text
    assert cut.completions[0].finish_reason == "stop"


def test_a_prefix_is_read_once_also_by_later_requests_and_not_after_a_change_of_weights(model64):
    model = build_model(dtype=torch.float64)
    engine, prompt = Engine(model, config=SMALL), [*range(20)]
    for n_shared in (0, 16):
        handle = engine.submit(Request(token_ids=prompt, sampling=GREEDY))
        engine.run()
        assert engine.statistics.n_shared_tokens == n_shared
    longer = engine.submit(Request(token_ids=[*prompt, *ids(handle)[0], 1, 2], sampling=GREEDY))
    engine.run()
    assert engine.statistics.n_shared_tokens == 16 + 24  # what was generated is shared too
    with torch.no_grad():
        model.trunk.blocks[0].attention.key.weight.mul_(1.5)
    again = engine.submit(Request(token_ids=prompt, sampling=GREEDY))
    engine.run()
    assert engine.statistics.n_shared_tokens == 16 + 24
    assert ids(again) == generate_ids(model, [prompt], GREEDY)
    assert ids(longer) != []


def test_cancelling_frees_at_once(model64):
    engine = Engine(model64, config=SMALL)
    handles = [engine.submit(Request(token_ids=prompt, sampling=GREEDY)) for prompt in prompts(7)]
    engine.step()
    used = engine.statistics.n_pages_used
    for handle in handles[:2] + handles[5:]:
        engine.cancel(handle)
        assert handle.done
    assert engine.statistics.n_pages_used < used
    assert engine.statistics.n_waiting + engine.statistics.n_running == 3
    engine.run()
    expected = generate_ids(model64, prompts(7), GREEDY)
    assert [ids(handle)[0] for handle in handles[2:5]] == expected[2:5]
    assert [h.completions[0].finish_reason for h in handles] == ["interrupted"] * 2 + ["length"] * 3 + [
        "interrupted"
    ] * 2
    stream = engine.stream(engine.submit(Request(token_ids=[1, 2], sampling=GREEDY)))
    next(stream)
    stream.close()  # a reader that goes away
    assert is_empty(engine)
    assert engine.statistics.n_cancelled == 5


def test_a_failing_request_ends_with_its_error_and_the_others_go_on(model64):
    model = build_model(dtype=torch.float64)
    with torch.no_grad():
        model.trunk.token_embedding.weight[96] = (
            torch.nan
        )  # the vector of one token, and its logit everywhere
        model.lm_head.weight = torch.nn.Parameter(model64.lm_head.weight.clone())

    class Nothing:
        def allowed(self, token_ids):
            return torch.zeros(97, dtype=torch.bool)

        def accept(self, token_id):
            raise AssertionError

    def explodes():
        raise UserError("a grammar of 10^9 states", "at most 10^6")

    engine, some = Engine(model, config=SMALL), [[1, 2, 3], [5, 96, 7, 8, 9, 4], [3, 4], [6, 7]]
    good = engine.submit(Request(token_ids=some[0], sampling=GREEDY))
    broken = engine.submit(Request(token_ids=some[1], sampling=GREEDY, n=2))
    with pytest.raises(UserError, match="states"):
        engine.submit(Request(token_ids=[1], sampling=GREEDY, constraint=explodes))
    nothing = engine.submit(Request(token_ids=some[2], sampling=GREEDY, constraint=Nothing))
    late = engine.submit(Request(token_ids=some[3], sampling=GREEDY))
    engine.run()
    expected = generate_ids(model, [some[0], some[3]], GREEDY)
    assert [ids(good)[0], ids(late)[0]] == expected
    for handle, match in ((broken, "not finite"), (nothing, "no token is allowed")):
        with pytest.raises(UserError, match=match):
            ids(handle)
    assert engine.statistics.n_failed == 2
    assert is_empty(engine)
    everywhere = [engine.submit(Request(token_ids=[1, n, 3], sampling=GREEDY)) for n in range(40)]
    engine.run()  # in pages that held no numbers
    assert [ids(h)[0] for h in everywhere] == generate_ids(
        model64_like(model), [[1, n, 3] for n in range(40)], GREEDY
    )


def model64_like(model):
    clean = build_model(dtype=torch.float64)
    clean.load_state_dict(model.state_dict())
    with torch.no_grad():
        clean.trunk.token_embedding.weight[96] = 0.0
    clean.lm_head.weight = model.lm_head.weight
    return clean


def test_what_can_never_run_is_refused_with_both_numbers(model64, tiny_chat_model):
    engine = Engine(model64, config=SMALL.replace(memory_bytes=9 * 1024, max_queue=2))
    n_tokens = engine.statistics.n_pages * 4
    refused = (
        (Request(token_ids=[1] * 49), "49 tokens.*48"),
        (Request(token_ids=[]), "no tokens"),
        (Request(token_ids=[1, 97]), "97"),
        (Request(token_ids=[1] * n_tokens), "bytes of cache, and the engine has [0-9,]+"),
        (Request(token_ids=[1], n=0), "n = 0.*1 to 10000"),
        (Request(token_ids=[1], sampling=GREEDY, n=2, seed=[1]), "1 seeds for 2"),
        (Request(token_ids=[1], adapter="a"), "without adapters"),
        (Request(prompt="a"), "needs a tokenizer"),
        (Request(), "either a prompt or token_ids"),
        (Request(token_ids=[1], sampling=GREEDY.replace(stop=("a",))), "stop needs a tokenizer"),
    )
    for request, match in refused:
        with pytest.raises(UserError, match=match):
            engine.submit(request)
    for _ in range(2):
        engine.submit(Request(token_ids=[1], sampling=GREEDY))
    with pytest.raises(UserError, match=r"2 requests wait.*2"):
        engine.submit(Request(token_ids=[1], sampling=GREEDY))
    full = Engine(model64).submit(Request(token_ids=[1] * 48))
    assert (full.completions[0].token_ids, full.completions[0].finish_reason) == ((), "length")
    for settings in ({"max_rows": 0}, {"page_size": -1}, {"memory_bytes": 0}, {"max_step_tokens": 0}):
        with pytest.raises(UserError, match=next(iter(settings))):
            EngineConfig().replace(**settings)


def test_more_requests_than_memory_wait_and_give_way_and_lose_nothing(model64):
    some = prompts(20)
    expected = generate_ids(model64, some, WARM, seeds=range(20))
    engine = Engine(
        model64, config=EngineConfig(page_size=2, max_rows=8, memory_bytes=12_000, max_step_tokens=9)
    )
    handles = [engine.submit(Request(token_ids=p, sampling=WARM, seed=i)) for i, p in enumerate(some)]
    most = 0
    while engine.step():
        most = max(most, engine.statistics.n_running)
    statistics = engine.statistics
    assert [ids(handle)[0] for handle in handles] == expected
    assert statistics.n_preempted > 0
    assert most > 1
    assert statistics.memory_bytes <= statistics.memory_bound == 12_000
    assert is_empty(engine)


def test_clients_share_equally_and_priorities_go_first(model64):
    engine = Engine(model64, config=EngineConfig(max_rows=1))
    order: list[str] = []
    handles = [
        (f"a{i}", engine.submit(Request(token_ids=[1, i], sampling=GREEDY, client="a"))) for i in range(4)
    ]
    handles += [
        (f"b{i}", engine.submit(Request(token_ids=[2, i], sampling=GREEDY, client="b"))) for i in range(2)
    ]
    handles.append(("c", engine.submit(Request(token_ids=[3], sampling=GREEDY, client="a", priority=1))))
    while engine.step():
        order += [name for name, handle in handles if handle.done and name not in order]
    assert order == ["c", "b0", "a0", "b1", "a1", "a2", "a3"]


def test_requests_from_other_threads_are_served_in_the_background(model64):
    engine, some = Engine(model64, config=SMALL), prompts(12)
    results: dict[int, list[int]] = {}
    engine.start()

    def client(number: int) -> None:
        handle = engine.submit(Request(token_ids=some[number], sampling=GREEDY, client=str(number)))
        if number % 4 == 3:
            engine.cancel(handle)
        elif number % 4 == 2:
            assert handle.wait(60)
            results[number] = ids(handle)[0]
        else:
            results[number] = [piece.token_id for piece in engine.stream(handle)]

    threads = [threading.Thread(target=client, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.stop()
    engine.run()
    expected = generate_ids(model64, some, GREEDY)
    assert results == {i: expected[i] for i in range(12) if i % 4 != 3}
    assert is_empty(engine)


def test_a_fault_in_the_background_ends_what_runs_and_the_next_request_is_served(model64, monkeypatch):
    engine, [prompt] = Engine(model64, config=SMALL), prompts(1)
    with monkeypatch.context() as patch:
        patch.setattr(engine._scheduler, "plan", lambda: 1 / 0)
        engine.start()
        handles = [engine.submit(Request(token_ids=prompt, sampling=GREEDY)) for _ in range(2)]
        assert all(handle.wait(10) for handle in handles)
    assert all(isinstance(handle.error, ZeroDivisionError) for handle in handles)
    after = engine.submit(Request(token_ids=prompt, sampling=GREEDY))
    assert after.wait(10)
    engine.stop()
    assert ids(after) == generate_ids(model64, [prompt], GREEDY)
    assert is_empty(engine)


def test_a_request_counts_what_was_read_and_what_was_cached_and_calls_when_it_changes(model64):
    engine, prompt = Engine(model64, config=SMALL), prompts(1, longest=20)[0][:1] * 20
    calls: list[int] = []
    request = Request(token_ids=prompt, sampling=GREEDY, on_change=lambda: calls.append(1))
    first = engine.submit(request)
    assert (first.n_read_tokens, first.n_cached_tokens) == (0, 0)
    engine.run()
    second = engine.submit(request)
    engine.run()
    assert [one.n_read_tokens for one in (first, second)] == [20, 20]
    page = engine.cache.page_size
    assert [one.n_cached_tokens for one in (first, second)] == [0, 19 // page * page]
    assert len(calls) == 2  # in the background each token calls too


def test_adapters_of_one_pass_are_those_of_their_rows(model64):
    model = build_model(dtype=torch.float64)
    adapters = AdapterSet(model)
    targets = LoraConfig(rank=2, alpha=8.0)
    for number, name in enumerate(("first", "second", "dora")):
        adapter = make_lora(model, targets.replace(dora=True) if name == "dora" else targets)
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in adapter.parameters().values():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        adapters.add(name, adapter)
    prefix = make_prefix(model, PrefixConfig(n_prompt_tokens=3))
    with torch.no_grad():
        for parameter in prefix.parameters().values():
            parameter.normal_()
    adapters.add("prefix", prefix)
    some, names = prompts(10), [None, "first", "second", "dora", "prefix"] * 2
    expected = []
    for prompt, name in zip(some, names, strict=True):
        adapters.use(name)
        expected += generate_ids(model, [prompt], GREEDY)
    adapters.use("first")  # a request that names none gets this one
    engine = Engine(model, config=SMALL.replace(max_rows=10, max_step_tokens=60), adapters=adapters)
    base = engine.submit(Request(token_ids=some[1], sampling=GREEDY))
    handles = [
        engine.submit(Request(token_ids=prompt, sampling=GREEDY, adapter=name))
        for prompt, name in zip(some, names, strict=True)
        if name is not None
    ]
    engine.run()
    assert ids(base)[0] == expected[1]
    assert [ids(h)[0] for h in handles] == [e for e, name in zip(expected, names, strict=True) if name]
    assert len({tuple(e) for e in expected}) > 5
    assert adapters.current == "first"
    adapters.use(None)
    bare = engine.submit(Request(token_ids=some[0], sampling=GREEDY))
    engine.run()
    assert ids(bare)[0] == expected[0]
    with pytest.raises(UserError, match="no adapter 'third'"):
        engine.submit(Request(token_ids=[1], adapter="third"))


@pytest.mark.parametrize("cache_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cache_of_lower_precision_gives_close_log_probabilities_in_chunks_or_at_once(dtype, cache_dtype):
    model = build_model(TINY.replace(head_dim=8), dtype)
    config = SamplingConfig(temperature=0.0, max_new_tokens=4, log_probabilities=1)
    prompt = prompts(1)[0] + [3] * 12
    found = []
    for max_step_tokens in (100, 5):
        settings = EngineConfig(cache_dtype=cache_dtype, page_size=4, max_step_tokens=max_step_tokens)
        engine = Engine(model, config=settings)
        handle = engine.submit(Request(token_ids=prompt, sampling=config))
        engine.run()
        found.append([choice.log_probability for choice in handle.completions[0].log_probabilities])
        assert engine.statistics.cache_dtype == cache_dtype
    exact = [choice.log_probability for choice in generate_choices(model, [prompt], config)[0]]
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(found[1]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(found[0]), torch.tensor(exact), atol=0.15, rtol=0.1)
