"""Chat templates are programs from a file: what they may do, and where they are stopped."""

from __future__ import annotations

import pytest

from assay.errors import UserError
from assay.generation.templates import render

MESSAGES = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ 5000 * 3000 }} {{ 2 ** 10 }} {{ 7 % 3 }} {{ '%s!' % 'a' }} {{ 'ab' * 2 }}", "15000000 1024 1 a! abab"),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "hi"}]'),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
    ],
)
def test_what_templates_need_works(template: str, said: str) -> None:
    assert render(template, MESSAGES) == said


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**10 }}",
        "{{ 10**10 * 'a' }}",
        "{{ [1] * 10**10 }}",
        "{{ 9 ** 99999 }}",
        "{{ '%9999999999s' % 1 }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ 'a'.center(10**10) }}",
        "{{ 'a' | center(10**10) }}",
        "{% for a in range(9**5) %}{% for b in range(9**5) %}{% endfor %}{% endfor %}",
        "{{ lipsum(n=5) }}",
        "{{ 1 / 0 }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ [1, 'a'] | sort }}",
        "{% include '/etc/hosts' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ raise_exception('no') }}",
        "{% if %}",
    ],
)
def test_what_grows_without_end_or_fails_is_a_clear_error(template: str) -> None:
    with pytest.raises(UserError, match="chat template cannot render"):
        render(template, MESSAGES)
