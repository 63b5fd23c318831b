"""Functions that want out, or want everything."""

from __future__ import annotations

DEEP = "-" * 3000 + "1"

HOSTILE: dict[str, tuple[str, str]] = {
    # What they try, what comes of it, and the body of the function.
    "loops": ("timeout", "while True: pass"),
    "loops in a built-in": ("timeout", "return sum(range(10**12))"),
    "loops in a comprehension": ("timeout", "return len([x for x in range(10**9) if x < 0])"),
    "loops and swallows what stops it": (
        "timeout",
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
    ),
    "searches for ever": ("timeout", "x = 'ab' * 10**6\n    while True: x.find('ba' * 400000 + 'c')"),
    "sorts for ever": ("timeout", "while True: sorted(range(10000), key=lambda n: -n)"),
    "loops over two huge ranges": ("timeout", "return [1 for a in range(10**6) for b in range(10**6) if a < 0]"),
    "recurses": ("raised", "def down(n): return down(n + 1)\n    return down(0)"),
    "recurses into itself and swallows it": (
        "timeout",
        "def down():\n        try: return down()\n        except RecursionError: return down()\n    return down()",
    ),
    "fills a list": ("memory", "x = []\n    while True: x.append('x' * 1000)"),
    "doubles a list": ("memory", "x = [0]\n    while True: x = x + x"),
    "doubles a string": ("memory", "x = 'x'\n    while True: x = x + x"),
    "repeats a string": ("memory", "return 'x' * 10**10"),
    "repeats a list": ("memory", "return [0] * 10**9"),
    "fills a dict": ("memory", "return {n: str(n) * 100 for n in range(10**7)}"),
    "fills a set": ("memory", "return len({str(n) * 50 for n in range(10**7)})"),
    "pads a string": ("memory", "return 'x'.ljust(10**10)"),
    "formats a wide number": ("memory", "return f'{1:{10**9}}'"),
    "joins strings": ("memory", "return ('x' * 10**6).join(['a'] * 10**4)"),
    "replaces to expand": ("memory", "return ('a' * 10**5).replace('a', 'b' * 10**5)"),
    "raises to a huge power": ("memory", "return 9 ** 9 ** 9"),
    "shifts to a huge number": ("memory", "return 1 << 10**12"),
    "multiplies huge numbers": ("timeout", "x = 7 ** 10**6\n    while True: x * x"),
    "prints a huge number": ("raised", "return str(9 ** 10**5)"),
    "reads a huge number": ("raised", "return int('9' * 5000)"),
    "answers a huge integer": ("answer", "return {'allowed': True, 'parameters': {'n': 2 ** 64}}"),
    "backtracks": ("", "import re\n    return {'allowed': re.match('(a+)+$', 'a' * 40 + 'b') is not None}"),
    "prints without end": ("memory", "while True: print('x' * 100)"),
    "prints much at once": ("memory", "print('x' * 10**7)\n    return {'allowed': True}"),
    "sleeps": ("", "import time\n    time.sleep(10**6)\n    return {'allowed': True}"),
    "sleeps again and again": ("timeout", "import time\n    while True: time.sleep(1)"),
    "answers what shares its parts": (
        "answer",
        "x = [1]\n    for n in range(40): x = [x, x]\n    return {'allowed': True, 'parameters': {'x': x}}",
    ),
    "answers dicts that share their parts": (
        "answer",
        "x = {}\n    for n in range(15): x = {'a': x, 'b': x}\n    return {'allowed': True, 'parameters': x}",
    ),
    "answers itself": ("answer", "x = {'allowed': True}\n    x['parameters'] = x\n    return x"),
    "answers something deep": (
        "answer",
        "x = 1\n    for n in range(50): x = [x]\n    return {'allowed': True, 'parameters': {'x': x}}",
    ),
    "answers something wide": ("answer", "return {'allowed': True, 'parameters': {'x': list(range(20000))}}"),
    "answers 100 MB": ("memory", "return {'allowed': True, 'reason': 'x' * 100_000_000}"),
    "answers 5 MB": ("answer", "return {'allowed': True, 'reason': 'x' * 5_000_000}"),
    "answers 100 MB of small parts": ("memory", "return {'allowed': True, 'parameters': {'x': ['y'] * 10**8}}"),
    "answers NaN": ("answer", "return {'allowed': True, 'parameters': {'x': float('nan')}}"),
    "answers infinity": ("answer", "return {'allowed': True, 'parameters': {'x': -float('inf')}}"),
    "answers keys that are numbers": ("answer", "return {'allowed': True, 'parameters': {1: 2}}"),
    "answers a tuple": ("answer", "return {'allowed': True, 'parameters': {'x': (1, 2)}}"),
    "answers bytes": ("answer", "return {'allowed': True, 'parameters': {'x': b'x'}}"),
    "answers a set": ("answer", "return {'allowed': True, 'parameters': {'x': {1}}}"),
    "answers a time": (
        "answer",
        "import datetime\n    return {'allowed': True, 'parameters': {'x': datetime.date.today()}}",
    ),
    "answers a function": ("answer", "return judge"),
    "answers an object": ("answer", "class A: pass\n    return A()"),
    "answers an object in its parameters": (
        "answer",
        "class A: pass\n    return {'allowed': True, 'parameters': {'a': A()}}",
    ),
    "answers a class that looks like an answer": (
        "answer",
        "class A:\n        allowed = True\n        reason = 'x'\n    return A()",
    ),
    "answers a word": ("answer", "return 'allow'"),
    "answers nothing": ("answer", "return None"),
    "answers a one": ("answer", "return {'allowed': 1}"),
    "answers a list": ("answer", "return [True]"),
    "answers a reason that is none": ("answer", "return {'allowed': True, 'reason': ['x']}"),
    "walks attributes": ("raised", "return ().__class__.__bases__[0].__subclasses__()"),
    "walks a function": ("raised", "return judge.__globals__"),
    "walks a traceback": (
        "raised",
        "try: 1 / 0\n    except Exception as error: return error.__traceback__.tb_frame.f_back.f_globals",
    ),
    "formats attributes": ("raised", "return '{0.__class__.__mro__}'.format(context)"),
    "evaluates an import": ("raised", 'return eval(\'__import__("os").system("id")\')'),
    "executes an import": ("raised", "exec('import subprocess')\n    return {'allowed': True}"),
    "imports a process": ("raised", "import subprocess\n    subprocess.run(['touch', '{canary}'])"),
    "imports the network": ("raised", "import socket\n    socket.create_connection(('127.0.0.1', 5000))"),
    "imports a native library": ("raised", "import ctypes\n    ctypes.string_at(0)"),
    "imports this project": ("raised", "import policy_engine\n    return {'allowed': True}"),
    "reads a file": ("raised", "return {'allowed': True, 'reason': open('/etc/passwd').read()[:9]}"),
    "writes a file": ("raised", "open('{canary}', 'w').write('x')\n    return {'allowed': True}"),
    "writes by path": ("raised", "from pathlib import Path\n    Path('{canary}').write_text('x')"),
    "lists a directory": ("raised", "import os\n    return os.listdir('/')"),
    "reads the environment": ("raised", "import os\n    return {'allowed': True, 'reason': str(os.environ)}"),
    "asks for one variable": ("raised", "import os\n    return {'allowed': True, 'reason': os.getenv('HOME')}"),
    "runs a command": ("raised", "import os\n    os.system('touch {canary}')"),
    "kills": ("raised", "import os\n    os.kill(os.getppid(), 9)"),
    "forks": ("raised", "import os\n    while True: os.fork()"),
    "exits": ("raised", "import sys\n    sys.exit(0)"),
    "exits by name": ("raised", "raise SystemExit"),
    "interrupts": ("raised", "raise KeyboardInterrupt"),
    "raises the base of everything": ("raised", "raise BaseException('x')"),
    "raises what looks like the clock": ("raised", "raise TimeoutError('feed time limit exceeded: 1ms > 0ms')"),
    "raises a secret": ("raised", "raise ValueError(context['secret'])"),
    "raises a long text": ("raised", "raise ValueError('x' * 10**6)"),
    "waits for what never comes": ("answer", "import asyncio\n    return asyncio.run(asyncio.sleep(10**6))"),
    "awaits in a circle": (
        "",
        "import asyncio\n    async def a(): return 1\n    return {'allowed': asyncio.run(a()) == 1}",
    ),
    "hashes collisions": ("timeout", "x = {}\n    for n in range(10**9): x[n % 1000 * (2**61 - 1)] = n\n    return x"),
    "burns decimals": ("", "from decimal import Decimal\n    return {'allowed': Decimal(7) ** 10000 > 0}"),
    "copies itself deep": ("answer", "import copy\n    x = []\n    x.append(x)\n    return copy.deepcopy(x)"),
    "compares what shares its parts": (
        "timeout",
        "a, b = [1], [1]\n    for n in range(60): a, b = [a, a], [b, b]\n    return {'allowed': a == b}",
    ),
    "shows what shares its parts": ("timeout", "x = [1]\n    for n in range(60): x = [x, x]\n    return repr(x)"),
    "dumps what shares its parts": (
        "timeout",
        "import json\n    x = [1]\n    for n in range(60): x = [x, x]\n    return json.dumps(x)",
    ),
}

SOURCES: dict[str, tuple[str, str]] = {
    # The same for whole sources.
    "is no Python": ("source", "def judge(context:"),
    "is nested deep": ("source", f"x = {DEEP}\ndef judge(context): return x"),
    "has many brackets": ("source", "x = " + "(" * 5000),
    "is one long sum": ("source", "x = 1" + " + 1" * 16000 + "\ndef judge(context): return x"),
    "loops before it is called": ("timeout", "while True: pass"),
    "is not there": ("raised", "def other(context): return {'allowed': True}"),
    "takes no context": ("raised", "def judge(): return {'allowed': True}"),
    "yields": ("raised", "def judge(context):\n    yield {'allowed': True}"),
    "is a coroutine": ("answer", "async def judge(context): return {'allowed': True}"),
    "is no function": ("raised", "judge = {'allowed': True}"),
    "ends the program early": ("source", "def judge(context): return {'allowed': True}\n'''"),
    "names its entry anew": ("answer", "def judge(context): return {'allowed': True}\njudge = lambda context: 5"),
}


def sources() -> dict[str, tuple[str, str]]:
    """Return every hostile source by name, with what is to come of it: a kind of error, or "" for an answer."""
    bodies = {name: (kind, f"def judge(context):\n    {body}\n") for name, (kind, body) in HOSTILE.items()}
    return {**bodies, **SOURCES}
