"""Small templates, each about one operator, filter, test or method; see chat_template_golden.py."""

VARIABLES = [
    {"role": "system", "content": "  Be brief,\tplease.\n"},
    {"role": "user", "content": "想</think>Hello <|user|> héllo HELLO</think> 世界\r\nline two\n\nß%s {}", "n": 3},
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "1", "function": {"name": "f", "arguments": {"b": [1, 2.5, None, True], "a": "é\"\\\n\u0001"}}}]},
    {"role": "tool", "content": [{"type": "text", "text": "ok"}, {"type": "image"}], "items": "shadowed"},
]

_TEXT = "{% set t = messages[1].content %}{% set s = messages[0].content %}"

_ON_TEXT = """
t.split('</think>')
t.split('</think>')[-1]
t.split('</think>')[0]
t.split('</think>', 1)
t.split()
t.split(None, 2)
t.split(maxsplit=1)
t.rsplit(None, 2)
t.rsplit('l', 2)
t.rsplit('</think>', 1)[0]
t.split('nowhere')
t.split('')
t.partition('</think>')
t.rpartition('</think>')
t.partition('?')
t.rpartition('?')
t.rpartition('?')[2][:5]
t.splitlines()
t.splitlines(true)
s.strip()
s.strip(' B')
s.lstrip()
s.rstrip('\\n.')
s.strip(None) ~ '|'
t.replace('l', 'L')
t.replace('l', 'L', 2)
t.replace('', '-')
t.replace('</think>', '')
t.find('Hello')
t.find('l', 20)
t.find('l', -5)
t.rfind('l')
t.find('?')
t.index('Hello')
t.index('?')
t.rindex('l', 0, 20)
t.count('l')
t.count('')
t.count('</think>')
t.startswith('想')
t.startswith(('a', '想'))
t.startswith('Hello', 9)
t.endswith('{}')
t.endswith(('x', '}'))
t.upper()
t.lower()
t.title()
t.capitalize()
t.swapcase()
t.casefold()
t[0]
t[-1]
t[1:4]
t[:-3]
t[-5:]
t[::-1]
t[::3]
t[10:2:-2]
t[100:]
t[1000]
t[:none]
t | length
t | upper
t | lower
t | title
t | capitalize
t | trim
s | trim
s | trim(' \\n.')
s | trim | length
t | first
t | last
t | list | length
t | reverse
t | replace('l', 'L')
t | replace('l', 'L', 1)
t | indent
t | indent(2, true)
t | indent(2, first=true, blank=true)
t | indent('> ')
t | truncate(12)
t | truncate(12, true)
t | truncate(12, true, '~', 0)
t | wordcount
t | center(90)
t | e
t | escape
t | safe
t | tojson
t | tojson(ensure_ascii=True)
t | string
t | default('x')
t | int
t | float
t | unique | join
t | sort | join
t | map('upper') | join('.')
t | select('upper') | join
'</think>' in t
'?' not in t
'' in t
1 in t
'x' in 1
t + 'x'
t + 1
1 + t
t ~ 1 ~ none ~ true ~ 1.0
t * 2
t * 0
2 * 'ab'
'ab' * -1
t < 'z'
t == t[:]
t != s
t and 'yes'
'' or t[:2]
not t
t is string
t is sequence
t is iterable
t is mapping
t is number
t is lower
t is upper
t is defined
t is in [t]
t.isspace()
t.isalpha()
'abc'.isalpha()
'a1'.isalnum()
'12'.isdigit()
'12'.isnumeric()
''.isdigit()
' \\n'.isspace()
'ab'.islower()
'AB'.isupper()
'1'.isupper()
'ab'.isascii()
'é'.isascii()
'7'.zfill(3)
'-7'.zfill(4)
'ab'.center(7, '*')
'abc'.center(6)
'abc'.center(7)
'ab'.ljust(4) ~ '|'
'ab'.rjust(4, '.')
'a\\tb'.expandtabs(4)
', '.join(['a', 'b'])
', '.join([1])
''.join(t[:3])
'-'.join({'a': 1, 'b': 2})
'prefix-x'.removeprefix('prefix-')
'x.json'.removesuffix('.json')
'x'.removesuffix('')
t.nothing
t['nothing']
t.nothing.more
t['upper']()
s.strip().split(',')[0].lower()
'%s' % t[:3]
'%s and %s' % ('a', 1)
'%s' % [1, 'a']
'%r' % 'it\\'s'
'%5s|%-5s|' % ('a', 'b')
'%d%%' % 50
'%05d' % 42
'%+d' % 42
'%x %X %o' % (255, 255, 8)
'%.2f' % 3.14159
'%8.3f|' % 3.14159
'%-8d|' % 5
'%d' % 3.9
'%s' % none
'%s' % true
'%(a)s-%(b)d' % {'a': 'x', 'b': 2}
'%s %s' % ('a',)
'%s' % ('a', 'b')
'%d' % 'a'
'%z' % 1
'%' % ()
'%c%c' % ('a', 'b')
'%.2s' % 'abcdef'
'%*d' % (5, 42)
'%s'|format(t[:2])
'%s-%s'|format('a', 'b')
'{}-{}'.format('a', 1)
'{0}{1}{0}'.format('a', 'b')
'{x}'.format(x='y')
'{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c')
'{:05d}'.format(42)
'{:,}'.format(1234567)
'{:.2f}'.format(3.14159)
'{:.1%}'.format(0.256)
'{!r}'.format('a')
'{a[b]}'.format(a={'b': 1})
'{{}}'.format()
'{}'.format()
'{'.format(1)
"""

_PLAIN = """
1 + 2 * 3
7 // 2
-7 // 2
7 % 3
-7 % 3
7 / 2
8 / 2
2 ** 10
2 ** -1
7.5 // 2
7.5 % 2
1 / 0
1 % 0
-3
- 3 | abs
-messages | length
-messages[1].n
- messages[1]['n'] + 1
-'abc'.find('c')
-'12'[1:] | int
1.0
1e20
1.5e-7
100000000000000000000.0
10 ** 15 * 1.0
0.1 + 0.2
true
none
True and None
[1, 'a', none, true, 1.5]
(1, 2)
(1,)
()
{'a': 1, 'b': [2]}
['it\\'s', "say \\"x\\"", 'a\\n\\t\\\\']
['\\x07é\\u3000😀']
messages[2].tool_calls
messages[2].tool_calls[0].function.arguments | tojson
messages[2].tool_calls[0].function.arguments | tojson(indent=2)
messages[2].tool_calls[0].function.arguments | tojson(sort_keys=true, separators=(',', ':'))
messages[2].tool_calls[0].function.arguments | tojson(ensure_ascii=true)
messages[2] | tojson
[] | tojson(indent=2)
{} | tojson(indent=2)
[[], {}] | tojson(indent=1)
{1: 2, none: 3, true: 4} | tojson
'</script>' | tojson
1e16 | tojson
nothing | tojson
messages[2].content
messages[2].content is none
messages[2].content is defined
messages[2].content + 'x'
messages[2].content | default('d')
messages[2].content | default('d', true)
messages[2].content or 'd'
messages[2].content | string
messages[2].content | length
messages[2].content.x
messages[2].content[1:]
messages[3].content is string
messages[3].content is iterable
messages[3].content is sequence
messages[3].content[0].text
messages[3].content | map(attribute='text') | list
messages[3].content | map(attribute='text', default='-') | join
messages[3].content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join
messages[3].content | selectattr('text', 'defined') | list | length
messages[3].content | rejectattr('text') | list
messages[3]['items']
messages[3].get('items')
messages[3].get('x')
messages[3].get('x', 'y')
messages[3].keys() | list
messages[1].items() | list | length
messages[1].values() | list | last
messages[1].n + 1
messages[1].n is integer
messages[1].n is odd
messages[1].n is divisibleby 3
messages[1].n is divisibleby(2)
messages[1].missing
messages[1].missing.more
messages[1].missing is defined
messages[1].missing is undefined and true
messages[1]['missing'] | default('x') ~ '!'
nothing
nothing ~ 'x'
nothing + 'x'
'x' + nothing
nothing | length
nothing | list
nothing == nothing
nothing is none
nothing is sequence
nothing < 1
nothing()
nothing[0]
nothing[1:]
not nothing
'a' in nothing
-nothing
nothing | upper
nothing | join(',')
nothing | first
[] | first
[] | last
[] | max
[3, 1, 2] | sort
[3, 1, 2] | sort(reverse=true)
['b', 'A', 'c'] | sort
['b', 'A', 'c'] | sort(case_sensitive=true)
['b', 1] | sort
[3, 1, 2] | max
[3, 1, 2] | min
[1, 2, 3] | sum
[1, 2, 3] | sum(start=10)
['a', 'b', 'a', 'A'] | unique | list
[1, 2, 3, 4, 5] | batch(2) | list
[1, 2, 3, 4, 5] | batch(2, 0) | list
[1, 2, 3, 4, 5] | slice(2) | list
[1, 2, 3, 4, 5] | slice(3, 0) | list
[1, 2, 3] | reverse | list
[1, none, 2] | select | list
[1, none, 2] | reject('none') | list
[1, 2, 3] | select('odd') | list
[1, 2, 3] | select('>', 1) | list
[1, 2, 3] | select('gt', 1) | list
[1, 2, 3] | map('string') | join('-')
[1, 'a', none] | join(', ')
['a', 'b'] | join
['a', 'b'] | map('upper') | list
['a', 'b'] | map('replace', 'a', 'x') | list
{'b': 1, 'A': 2} | dictsort
{'b': 1, 'a': 2} | dictsort(by='value')
{'b': 1, 'a': 2} | items | list
{'b': 1} | length
{'a': 1}.a
{'a': 1}['a']
{'a': 1}.items() | list
{'a': 1} | list
{'a': {'b': [1, 2]}}.a.b[-1]
{'a': 1} == {'a': 1.0}
[1, 2] == (1, 2)
[1, 2] + [3]
[1] * 3
(1, 2) + (3,)
[1, 2][5]
[1, 2][-1]
[1, 2, 3][1:]
[1, 2, 3][::-1]
[1, 2] < [1, 3]
1 < 2 < 3
1 < 3 < 2
1 == 1.0
1 == true
'1' == 1
1 < 'a'
1 in [1, 2]
1 not in [1, 2]
'a' in {'a': 1}
'a' in ('a', 'b')
1 in none
1 if true
1 if false
'x' if false else 'y'
true and 1 or 2
0 or ''
1 and 'a'
not 1 == 2
5 is number
true is number
true is boolean
5 is integer
true is integer
5.0 is float
5 is eq 5
5 is ne 5
5 is gt 4
5 is sameas 5
1 is true
true is true
none is none
[] is sequence
{} is mapping
{} is sequence
range is callable
'x' is callable
3 is even
'a' is in ['a']
'a' is not in ['a']
'upper' is filter
'nope' is filter
'odd' is test
'3' | int
'x' | int
'x' | int(7)
'3.9' | int
'0x1f' | int(base=16)
3.9 | int
true | int
none | int
'3.5' | float
'x' | float
2.5 | round
3.5 | round
2.675 | round(2)
2 | round
2.1 | round(method='ceil')
2.9 | round(0, 'floor')
2.55 | round(1, 'floor')
-3.5 | abs
-3 | abs
range(3) | list
range(1, 4) | list
range(5, 0, -2) | list
range(3) | length
range(10) | sum
dict(a=1, b='x')
dict([('a', 1)])
namespace(a=1).a
'a' 'b' ~ 'c'
'\\n\\t' ~ "\\"" ~ '\\''
'\\u4f60\\x41'
1_000
loop
bos_token
add_generation_prompt
tools
tools is none
documents is none
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %p')
raise_exception('no')
[1, 2].append(3)
{'a': 1}.update({'b': 2})
{'a': 1}.pop('a')
[1, 2, 1].count(1)
[1, 2].index(2)
[1, 2].index(5)
'a,b'.split(',') | map('upper') | join(';')
messages | map(attribute='role') | join(',')
messages | map(attribute='content.0.text') | list | last
messages | selectattr('role', 'in', ['user', 'tool']) | list | length
messages | groupby('role') | map('first') | join
messages | rejectattr('role', '==', 'user') | map(attribute='role') | list
messages[-1].role
messages[1:][0].role
messages[::-1][0].role
messages | last | attr('role')
(messages | first).role
messages[0]['role'] == 'system' and messages[0].content is string
"""

_TEMPLATES = [
    "{% for i in [1, 2, 3] %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% for i in [] %}x{% else %}none{% endfor %}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}:{{ i }} {% endfor %}",
    "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}",
    "{% for c in 'abc' %}{{ c }}.{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}",
    "{% for i in 5 %}{% endfor %}",
    "{% for i in none %}{% endfor %}",
    "{% for i in nothing %}x{% else %}y{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [1, [2, [3]]] recursive %}{% if i is iterable %}<{{ loop(i) }}>{% else %}{{ i }}@{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for i in 'aab' %}{{ loop.changed(i) }}{{ loop.cycle(1, 2) }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.revindex0 }} {% endfor %}",
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = [] %}{% for i in 'ab' %}{% set ns.a = ns.a + [i] %}{% endfor %}{{ ns.a }}",
    "{% if x is defined %}{% set y = 1 %}{% else %}{% set y = 2 %}{% endif %}{{ y }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set a.b = 1 %}",
    "{% set x %}a{{ 1 }}b{% endset %}{{ x }}{{ x | length }}",
    "{% set x | upper | trim %} ab {% endset %}[{{ x }}]",
    "{% filter upper %}ab{{ 'c' }}{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }} {{ m(1, c=3) }} {{ m(b=1, a=0) }} {{ m() }} {{ m(1, 2, 3, 4, d=5) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
    "{% set g = 'G' %}{% macro m() %}{{ g }}{{ x }}{% endmacro %}{% set x = 'late' %}{{ m() }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro list(x) %}<{{ caller() }}{{ x }}>{% endmacro %}{% call list(1) %}body{% endcall %}",
    "{% macro each(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(x, i) each('ab') %}{{ i }}{{ x }} {% endcall %}",
    "{% macro m() %}a{% endmacro %}{{ m() | upper }}{{ m() ~ m() }}{{ m() + 'x' }}{{ m() | length }}",
    "{{ caller() }}",
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n\n",
    "a \n {%- if true -%} \n b {%- endif %} c",
    "{%+ if true %}x{% endif +%}\ny",
    "  {#- c -#}  x  {# d #}\ny",
    "x {{- ' a ' -}} y",
    "{{ 'x' }}\n\n",
    "\n{{ 'x' }}",
    "{% raw %}{{ x }}{% if %}{% endraw %}",
    "{%- raw -%}  {{ x }}  {%- endraw -%}  y",
    "{# {{ x }} {% if %} #}a",
    "a\r\nb\rc{{ '\r\n' | length }}",
    "{% if 0 %}a{% elif '' %}b{% elif [1] %}c{% else %}d{% endif %}",
    "{% set j = joiner(', ') %}{% for i in 'abc' %}{{ j() }}{{ i }}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}",
    "{% autoescape false %}{{ '<' }}{% endautoescape %}",
    "{% for m in messages %}{{ m.role }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ m.role }}{% endif %}{% endfor %}",
    "{{ {'a': 1, **{}} }}",
    "{% include 'x' %}",
    "{% set x = messages | map(attribute='role') | list %}{{ x[0] }}{{ x | length }}",
    "{% set f = messages[0].content.strip %}{{ f() }}",
    "{% set s = messages[0].content %}{% set parts = s.split(',') %}{% for p in parts %}[{{ p.strip() }}]{% endfor %}",
]


def _lines(block):
    return block.strip().split("\n")


EXPRESSIONS = (
    [_TEXT + "{{ " + line + " }}" for line in _lines(_ON_TEXT)]
    + ["{{ " + line + " }}" for line in _lines(_PLAIN)]
    + _TEMPLATES
)
