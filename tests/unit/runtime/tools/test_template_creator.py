"""template-creator."""

import pytest

from services.common.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "template-creator"
CONTEXT = {
    "name": "Ada",
    "items": [{"n": "pen", "p": 2}, {"n": "ink", "p": 9}],
    "on": True,
    "none": None,
    "html": "<b>&",
    "map": {"x": 1, "y": 2},
    "empty": {},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Hello {{ name }}{# not #}!", "Hello Ada!"),
        ("{% for i in items %}{{ loop.index }}{{ i.n }} {% endfor %}", "1pen 2ink "),
        ("{% if on and not none %}yes{% else %}no{% endif %}", "yes"),
        ("{{ on }}|{{ none }}|{{ missing }}|{{ html }}", "true|||<b>&"),
        ('{{ name | replace(from="A", to="a") | upper }}', "ADA"),
        ('{{ missing | default(value="?") }}{{ name | default(value="?") }}', "?Ada"),
        ('{{ items | map(attribute="n") | join(sep=", ") }}', "pen, ink"),
        ('{% if name is starting_with("A") %}A{% endif %}', "A"),
        ('{{ 0 | date(format="%d.%m.%Y") }} {{ "Ä b!" | slugify }}', "01.01.1970 a-b"),
        ('{{ items | filter(attribute="p", value=9) | json_encode }}', '[{"n": "ink", "p": 9}]'),
        ("{% set a = 2 %}{{ a * 3 ~ 'x' }}", "6x"),
        ('{{ "Hello" | truncate(length=2) }}', "He…"),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(name) }}", "[Ada]"),
        ("{% for k, v in map %}{{ k }}{{ v }}{% endfor %}", "x1y2"),
        ("{%- for i, j in [[1, 2]] -%}{{ i }}{{ j }}{%- endfor -%}", "12"),
        ("{% for k, v in map.items() %}{{ k }}{{ v }}{% endfor %}", "x1y2"),
        ("{% for k, v in map | items %}{{ k }}{{ v }}{% endfor %}", "x1y2"),
        ("{% for k in map %}{{ k }}{% endfor %}{{ map.get('x') }}{{ map.keys() | join }}", "xy1xy"),
        ("{{ items | length }}{{ (items | first).n }}{{ items[1].n }}", "2penink"),
        ("{{ items | last | get(key='p') }}", "9"),
        ("{{ map.clear }}{{ map.keys ~ '' }}{{ items.append }}{{ map.__class__ }}", ""),
        (
            "{{ map }}{{ items | map(attribute='p') | sort | reverse | json_encode }}",
            "{'x': 1, 'y': 2}[9, 2]",
        ),
        ("{% if 'x' in map and map is mapping and items is sequence %}y{% endif %}", "y"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
    ],
)
async def test_tera_templates_are_rendered(hand, template, text):
    """Tera is the default, with its filters and tests."""
    result = await hand.result(NAME, template=template, context=CONTEXT)
    assert result["rendered"] == text
    assert (result["engine"], result["context_size"]) == ("tera", len(CONTEXT))
    assert result["template_length"] == len(template)


async def test_jinja_keeps_its_own_filters(hand):
    """The same engine without Tera's."""
    result = await hand.result(
        "template_engine",
        input="{{ x | default('?') }}{{ 'a-b' | replace('-', '+') }}",
        engine="jinja",
    )
    assert result["rendered"] == "?a+b"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{name}} {{html}} {{{html}}} {{&html}}", "Ada &lt;b&gt;&amp; <b>& <b>&"),
        ("{{#each items}}{{@index}}{{n}}{{#unless @last}}, {{/unless}}{{/each}}", "0pen, 1ink"),
        ("{{#each map}}{{@key}}={{this}};{{/each}}", "x=1;y=2;"),
        ("{{#each empty}}a{{else}}none{{/each}}", "none"),
        ("{{#if none}}a{{else if on}}b{{else}}c{{/if}}", "b"),
        ("{{#with items.[1]}}{{n}} of {{../name}}{{/with}}", "ink of Ada"),
        ("{{#each items}}{{../name}}{{this.p}}{{/each}}", "Ada2Ada9"),
        ("a {{~! no ~}} b {{!-- }} --}}c", "ab c"),
        ("{{missing.deep}}{{items.length}}{{items.0.n}}{{on}}", "2pentrue"),
        ("{{^none}}x{{/none}}", "x"),
    ],
)
async def test_the_core_of_handlebars_is_rendered(hand, template, text):
    """Paths, blocks, comments, escapes and white space."""
    result = await hand.result(NAME, input=template, context=CONTEXT, engine="handlebars")
    assert result["rendered"] == text


async def test_the_engine_is_told_by_the_template(hand):
    """Unless it is not to be."""
    template = "{{#if a}}x{{/if}}"
    done = await hand.result(NAME, input=template, context='{"a": 1}')
    assert (done["engine"], done["rendered"]) == ("handlebars", "x")
    error = await hand.refusal(NAME, input=template, auto_detect=False)
    assert error.reason == Reason.FIELD_INVALID


async def test_a_template_may_be_a_file(hand):
    """Of the tenant's folder."""
    (hand.folder / "letter.txt").write_text("Dear {{ name }}")
    result = await hand.result(NAME, template_file="letter.txt", context=CONTEXT)
    assert result["rendered"] == "Dear Ada"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, Reason.FIELD_REQUIRED),
        ({"input": "{{ x"}, Reason.FIELD_INVALID),
        ({"input": "{% for %}"}, Reason.FIELD_INVALID),
        ({"input": "{{ x | sorcery }}"}, Reason.FIELD_INVALID),
        ({"input": "{% include '/etc/passwd' %}"}, Reason.FIELD_INVALID),
        ({"input": "{{ x.__class__.__mro__ }}", "context": {"x": {}}}, Reason.FIELD_INVALID),
        ({"input": "{{> part}}", "engine": "handlebars"}, Reason.NOT_IMPLEMENTED),
        ({"input": "{{shout name}}", "engine": "handlebars"}, Reason.NOT_IMPLEMENTED),
        ({"input": "{{#list a}}{{/list}}", "engine": "handlebars"}, Reason.NOT_IMPLEMENTED),
        ({"input": "{{#if a}}", "engine": "handlebars"}, Reason.FIELD_INVALID),
        ({"input": "{{#if a}}{{/each}}", "engine": "handlebars"}, Reason.FIELD_INVALID),
        ({"input": "{{/if}}", "engine": "handlebars"}, Reason.FIELD_INVALID),
        ({"input": "{{a", "engine": "handlebars"}, Reason.FIELD_INVALID),
        ({"input": "a", "engine": "velocity"}, Reason.FIELD_INVALID),
        ({"input": "a", "context": "[1]"}, Reason.FIELD_INVALID),
        (
            {
                "input": "{% for a in range(9999) %}{% for b in range(9999) %}"
                "{% endfor %}{% endfor %}"
            },
            Reason.LIMIT_EXCEEDED,
        ),
        (
            {"input": "{% for a in range(9999) %}{{ x }}{% endfor %}", "context": {"x": "y" * 999}},
            Reason.LIMIT_EXCEEDED,
        ),
        (
            {
                "input": "{{#each a}}{{#each ../a}}{{@root.x}}{{/each}}{{/each}}",
                "context": {"a": [1] * 999, "x": "y" * 99},
                "engine": "handlebars",
            },
            Reason.LIMIT_EXCEEDED,
        ),
    ],
)
async def test_wrong_input_is_refused(hand, arguments, reason):
    """What is no template, reaches outside, is not offered, or makes too much."""
    assert (await hand.refusal(NAME, **arguments)).reason == reason
