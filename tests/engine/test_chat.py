"""Tests of engine.chat and of the program it starts, engine.template_child."""

import time
from pathlib import Path

import pytest

from engine import chat
from engine.errors import EngineError

CHATML = (
    "{% for message in messages %}\n"
    "    {% if message['role'] == 'system' and loop.first %}{% continue %}{% endif %}\n"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)


def render(template, *contents):
    messages = [{"role": "user", "content": content} for content in contents or ("hello",)]
    return chat.render(template, messages, bos_token="<s>", eos_token="</s>", where="m.gguf")


def refused(template):
    with pytest.raises(EngineError) as caught:
        render(template)
    assert caught.value.where == "m.gguf"
    assert caught.value.hint.startswith("leave --chat out")
    prefix = "the chat template cannot be rendered: "
    assert caught.value.args[0].startswith(prefix)
    return caught.value.args[0].removeprefix(prefix)


def test_blocks_leave_no_blank_and_no_line_behind():
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "a {{ 1 }} é\n"}]
    text = chat.render(CHATML, messages, bos_token="", eos_token="", where="m.gguf")
    assert text == "<|im_start|>user\na {{ 1 }} é\n<|im_end|>\n<|im_start|>assistant"


def test_a_template_sees_the_variables_that_transformers_gives():
    template = "{{ bos_token }}{{ eos_token }}{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}"
    assert render(template) == "<s></s>TrueTrueTrue"


def test_json_in_a_template_is_not_escaped_for_html():
    assert render("{{ messages | tojson }}", "<é'&>") == """[{"role": "user", "content": "<é'&>"}]"""


def test_a_template_can_write_the_date():
    before = time.strftime("%d %b %Y")
    assert render("{{ strftime_now('%d %b %Y') }}") in (before, time.strftime("%d %b %Y"))


def test_what_a_template_itself_refuses_is_said_in_its_words():
    said = refused("{{ raise_exception('Conversation roles must alternate') }}")
    assert said == "TemplateError: Conversation roles must alternate"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for %}", "TemplateSyntaxError: Expected an expression, got 'end of statement block'"),
        ("{{ messages[0].content.nothing.more }}", "UndefinedError: 'str object' has no attribute 'nothing'"),
        ("{{ os.system('true') }}", "UndefinedError: 'os' is undefined"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ ''.__class__ }}", "SecurityError: access to attribute '__class__' of a 'str' object is unsafe"),
        ("{{ ''['__class__'].__mro__ }}", "SecurityError: access to attribute '__class__' of a 'str' object is unsafe"),
        (
            "{{ cycler.__init__.__globals__.os.system('true') }}",
            "SecurityError: access to attribute '__init__' of a 'type' object is unsafe",
        ),
        ("{{ messages.append(1) }}", "SecurityError: access to attribute 'append' of a 'list' object is unsafe"),
        (
            "{{ '{0.__class__}'.format(1) }}",
            "SecurityError: access to attribute '__class__' of a 'int' object is unsafe",
        ),
        ("{% include 'x' %}", "TypeError: no loader for this environment specified"),
        (
            "{% for i in range(10 ** 9) %}x{% endfor %}",
            "OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError: maximum recursion depth exceeded"),
        ("{{ 'x' * 2 ** 34 }}", "it needs more memory than it may have"),
        ("{{ 'x' * (2 ** 22 + 1) }}", "ValueError: the text is longer than 4194304 characters"),
        (
            "{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}",
            "ValueError: the text is longer than 4194304 characters",
        ),
        ("x" * (2**20 + 1), "it has 1048577 characters, 1048576 are allowed"),
    ],
)
def test_a_template_that_is_wrong_or_not_to_be_trusted_is_one_clear_error(template, message):
    assert refused(template).startswith(message)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ (9 ** (9 ** 9)) % 7 }}",
    ],
)
def test_a_template_that_does_not_end_is_stopped(template, monkeypatch):
    monkeypatch.setattr(chat, "MAX_SECONDS", 1)
    assert refused(template) == "it did not end within 1 s of processor time"


def test_a_template_that_only_waits_is_stopped_too(monkeypatch, tmp_path):
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(chat, "MAX_WAIT", 0.2)
    monkeypatch.setattr(chat.template_child, "__file__", str(sleeper))
    assert refused("") == "it did not end within 0.2 s"


@pytest.mark.parametrize("planted", ["beside the program", "where the user stands"])
def test_only_installed_modules_are_imported(planted, monkeypatch, tmp_path):
    program = tmp_path / "program" / "child.py"
    program.parent.mkdir()
    program.write_bytes(Path(chat.template_child.__file__).read_bytes())
    monkeypatch.setattr(chat.template_child, "__file__", str(program))
    monkeypatch.chdir(tmp_path)
    folder = program.parent if planted == "beside the program" else tmp_path
    (folder / "json.py").write_text("raise SystemExit('planted')")
    assert render("{{ bos_token }}") == "<s>"
