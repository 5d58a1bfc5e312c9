"""Names of keys and queues."""

from img2img_shared.ledger.keys import queue_key, queue_name, script


def test_models_that_read_alike_have_queues_of_their_own() -> None:
    models = ["a/b", "a b", "a-b", "A-b", "é", "ü", "x" * 1000, "x" * 1001]
    names = [queue_name(model) for model in models]
    assert len(set(names)) == len(models)
    for name in names:
        assert len(name) < 70
        assert name.isascii()
        assert not set(name) & set(" /\\{}\x06\x16*?")


def test_a_queue_is_named_after_its_model() -> None:
    assert queue_name("runwayml/stable-diffusion-v1-5").startswith("img2img.runwayml-stable-diffusion-v1-5.")


def test_farms_have_queues_of_their_own() -> None:
    assert queue_key("one", "m") != queue_key("two", "m")


def test_each_script_begins_with_what_all_share() -> None:
    common, _, own = script("beat").partition("-- A worker is alive")
    assert common.strip() == script("finish").partition("-- Reports that an image is done")[0].strip()
    assert own
