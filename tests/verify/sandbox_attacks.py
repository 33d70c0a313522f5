"""Programs that try to break out of the sandbox, or to pass without working.

Only their text: sandbox_attack_run.py runs them.
"""

import platform

NUMBERS = {
  'x86_64': {
    'clone': 56, 'vfork': 58, 'clone3': 435, 'ptrace': 101,
    'process_vm_readv': 310, 'unshare': 272, 'mount': 165,
    'chroot': 161, 'add_key': 248,
    'io_uring_setup': 425, 'userfaultfd': 323, 'memfd_create': 319,
    'shmget': 29, 'mq_open': 240, 'pidfd_open': 434,
    'pidfd_send_signal': 424, 'tgkill': 234, 'kill': 62, 'prlimit64': 302,
    'setuid': 105, 'execveat': 322, 'openat': 257, 'landlock': 444,
    'prctl': 157,
  },
  'aarch64': {
    'clone': 220, 'vfork': 220, 'clone3': 435, 'ptrace': 117,
    'process_vm_readv': 270, 'unshare': 97, 'mount': 40,
    'chroot': 51, 'add_key': 217,
    'io_uring_setup': 425, 'userfaultfd': 282, 'memfd_create': 279,
    'shmget': 194, 'mq_open': 180, 'pidfd_open': 434,
    'pidfd_send_signal': 424, 'tgkill': 131, 'kill': 129, 'prlimit64': 261,
    'setuid': 146, 'execveat': 281, 'openat': 56, 'landlock': 444,
    'prctl': 167,
  },
}[platform.machine()]  # fmt: skip

# Before each program; `host` says what there is to be had.
PRELUDE = """
import ctypes, os, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
  # The seventh goes by the stack, where half of an int would be left unset.
  whole = [ctypes.c_long(a) if type(a) is int else a for a in arguments]
  result = libc.syscall(host['numbers'][name], *whole)
  if result < 0:
    raise OSError(ctypes.get_errno(), name)
  return result
def escape(given):
  global host
  host = given
"""

# Each is the body of a function; what it returns, if anything, is its prey.
ESCAPES = {
  # Files.
  'read_secret': "return open(host['secret']).read()",
  'read_passwd': "return open('/etc/passwd').read()",
  'list_root': "return os.listdir('/')",
  'list_processes': "return os.listdir('/proc')",
  'read_own_environment': "return open('/proc/self/environ').read()",
  'read_own_memory': "return open('/proc/self/mem', 'rb').fileno()",
  'read_command_of_parent': """
path = f'/proc/{host["parent"]}/cmdline'
return open(path).read()""",
  'read_code_of_judge': "return open(host['judge']).read()",
  'write': "return open(host['folder'] + '/new', 'w').write('x')",
  'write_existing': "return open(host['folder'] + '/kept', 'r+').write('x')",
  'append': "return open(host['folder'] + '/kept', 'a').write('x')",
  'files_in_a_loop': """
for n in range(1000):
  with open(f'{host["folder"]}/{n}', 'w') as file:
    file.write('x' * 10_000)
return True""",
  'unnamed_file': """
return os.open(host['folder'], os.O_TMPFILE | os.O_WRONLY)""",
  'shared_memory_file': "return os.open('/dev/shm/x', os.O_CREAT | os.O_RDWR)",
  'memory_file': "return os.memfd_create('x') + 1",
  'make_folder': "os.mkdir(host['folder'] + '/new'); return True",
  'delete': "os.unlink(host['folder'] + '/kept'); return True",
  'rename': "os.rename(host['folder'] + '/kept', host['folder'] + '/b')",
  'symbolic_link': "os.symlink('/', host['folder'] + '/new'); return True",
  'hard_link': "os.link(host['folder'] + '/kept', host['folder'] + '/new')",
  'named_pipe': "os.mkfifo(host['folder'] + '/new'); return True",
  'truncate': "os.truncate(host['folder'] + '/kept', 0); return True",
  'change_mode': "os.chmod(host['folder'] + '/kept', 0o4777); return True",
  'change_time': "os.utime(host['folder'] + '/kept', (0, 0)); return True",
  'change_folder': "os.chdir('/tmp'); return True",
  # Processes.
  'fork': "return os.fork() or os._exit(0)",
  'fork_bomb': """
children = 0
for _ in range(100):
  try:
    if os.fork() == 0:
      time.sleep(30)
      os._exit(0)
    children += 1
  except OSError:
    pass
return children""",
  'orphan': """
if os.fork() == 0:
  os.setsid()
  time.sleep(30)
  os._exit(0)
return True""",
  'clone': "return call('clone', 17, 0, 0, 0, 0) or os._exit(0)",
  'clone3': """
arguments = struct.pack('QQQQQQQQ', 0, 0, 0, 0, 17, 0, 0, 0)
return call('clone3', arguments, 64) or os._exit(0)""",
  'subprocess': "return subprocess.run(['/bin/echo', 'hi']).returncode == 0",
  'exec': "os.execv('/bin/echo', ['echo', host['escaped']])",
  'spawn': "return os.posix_spawn('/bin/true', ['true'], {}) or True",
  'shell': "os.system('touch ' + host['folder'] + '/new')",
  'thread': """
thread = threading.Thread(target=time.sleep, args=(0,))
thread.start()
return True""",
  # Signals and other processes.
  'kill_parent': "os.kill(host['parent'], 9); return True",
  'kill_victim': "os.kill(host['victim'], 9); return True",
  'kill_all': "os.kill(-1, 9); return True",
  'kill_group': "os.killpg(0, 0); return True",
  'kill_each': """
hit = 0
for pid in range(1, 300):
  try:
    os.kill(pid, 0)
    hit += pid != os.getpid()
  except OSError:
    pass
return hit""",
  'kill_by_thread': """
call('tgkill', host['victim'], host['victim'], 9); return True""",
  'kill_by_descriptor': """
call('pidfd_send_signal', call('pidfd_open', host['victim'], 0), 9, 0, 0)
return True""",
  'signal_by_pipe': """
import fcntl
fcntl.fcntl(1, fcntl.F_SETOWN, host['victim'])
fcntl.fcntl(1, fcntl.F_SETFL, os.O_ASYNC | os.O_WRONLY)
for _ in range(20):
  os.write(1, b'x')
  time.sleep(0.01)
return True""",
  'limit_victim': """
call('prlimit64', host['victim'], 7, struct.pack('QQ', 0, 0), 0)
return True""",
  'trace_victim': "call('ptrace', 16, host['victim'], 0, 0); return True",
  'read_memory_of_parent': """
here = ctypes.create_string_buffer(64)
near = struct.pack('QQ', ctypes.addressof(here), 10)
far = struct.pack('QQ', host['address'], 10)
call('process_vm_readv', host['parent'], near, 1, far, 1, 0)
return here.value.decode()""",
  # Network.
  'connect': "return socket.create_connection(('127.0.0.1', host['port']))",
  'send_datagram': """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
return s.sendto(b'x', ('127.0.0.1', host['port']))""",
  'connect_by_name': """
s = socket.socket(socket.AF_UNIX)
s.connect('\\0' + host['name'])
return True""",
  'listen': "s = socket.socket(); s.bind(('', 0)); s.listen(); return True",
  'ask_kernel': "return bool(socket.socket(socket.AF_NETLINK, 3, 0))",
  # The kernel.
  'mount': "call('mount', b'x', b'/tmp', b'tmpfs', 0, 0); return True",
  'new_user': "call('unshare', 0x10000000); return True",
  'change_root': "os.chroot('/'); return True",
  'become_root': "os.setuid(0); return True",
  'become_another': "os.setuid(os.getuid()); return True",
  'key': "return call('add_key', b'user', b'x', b'y', 1, -4)",
  'io_uring': "return call('io_uring_setup', 8, bytes(120)) + 1",
  'page_faults': "return call('userfaultfd', 1) + 1",
  'shared_memory': "return call('shmget', 0, 4096, 0o1600) + 1",
  'message_queue': "return call('mq_open', b'x', 0o102, 0o600, 0) + 1",
  'raise_limits': """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))
return True""",
  'other_architecture': """
import mmap
if os.uname().machine != 'x86_64':
  return None
page = mmap.mmap(-1, 4096, prot=7)
page.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')  # getpid by int 0x80
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
return ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0""",
  # What is already there.
  'descriptors': """
found = []
for fd in range(4, 100):
  try:
    os.fstat(fd)
    found.append(fd)
  except OSError:
    pass
return found""",
  'environment': "return 'ATTACKED' in os.environ",
  'root': "return os.getuid() == 0 or os.geteuid() == 0 or os.getgid() == 0",
  'earlier_programs': """
import gc
needle = 'needle-of-' + 'another'
seen, todo = set(), [*sys.modules.values(), *gc.get_objects()]
frame = sys._getframe()
while frame := frame.f_back:
  todo.append(frame)
while todo:
  thing = todo.pop()
  if id(thing) in seen or thing is seen or thing is todo:
    continue
  seen.add(id(thing))
  if type(thing) in (str, bytes) and len(thing) > 20:
    if needle in str(thing):
      return True
  todo.extend(gc.get_referents(thing))
return False""",
  # Resources.
  'memory': "return len('x' * (1 << 31))",
  'mapped_memory': """
import mmap
return len(mmap.mmap(-1, 1 << 31))""",
  'memory_in_a_loop': """
parts = []
while len(parts) < 2_000:
  parts.append(bytearray(1 << 20))
return len(parts)""",
  'many_descriptors': """
return [os.open('/dev/null', os.O_RDONLY) for _ in range(1000)]""",
  'big_result': "return 'x' * (1 << 20)",
  'deep_result': """
value = []
for _ in range(100):
  value = [value]
return value""",
  'junk_result': """
os.write(3, b'[' * 50_000 + b'\\n')
os._exit(0)""",
  'hostile_result': """
os.write(3, b'{"value": {"set": [[]]}}\\n{"done": true}\\n')
os._exit(0)""",
}  # fmt: skip
# These use all the time that they are given.
HANGS = {
  'compute': 'while True: pass',
  'sleep': 'time.sleep(10**6)',
  'regular_expression': "import re; re.match('(a+)+$', 'a' * 50 + 'b')",
  'power': 'return 10**10**9',
  'stack': """
sys.setrecursionlimit(10**9)
def f():
  return f()
return f()""",
  'print': "while True: print('x' * 100)",
  'print_slowly': """
while True:
  os.write(1, b'x')
  time.sleep(0.01)""",
  'close_and_compute': """
os.closerange(0, 100)
while True: pass""",
  'deaf': """
for number in range(1, 32):
  try:
    signal.signal(number, signal.SIG_IGN)
  except OSError:
    pass
while True: pass""",
  'stop_itself': """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
while True:
  try:
    while True: pass
  except BaseException: pass""",
}

# Answers to `add(a, b)` that do not add. Some need no call, some know that
# results go to descriptor 3.
FAKES = {
  'exit': 'raise SystemExit(0)',
  'exit_when_called': 'def add(a, b): raise SystemExit(0)',
  'exit_hard': 'import os; os._exit(0)',
  'exit_hard_when_called': 'def add(a, b):\n  import os; os._exit(0)',
  'always_equal': """
class Equal:
  def __eq__(self, other): return True
def add(a, b): return Equal()""",
  'always_equal_number': """
class Equal(int):
  def __eq__(self, other): return True
  __hash__ = int.__hash__
def add(a, b): return Equal(-1)""",
  'always_equal_text': """
class Equal(str):
  def __eq__(self, other): return True
  __hash__ = str.__hash__
def add(a, b): return Equal('')""",
  'false_class': """
class Equal:
  __class__ = int
  def __eq__(self, other): return True
def add(a, b): return Equal()""",
  'any_number': """
class Any(dict):
  def __eq__(self, other): return True
def add(a, b): return Any(float='nan')""",
  'frame_walk': """
import sys
def add(a, b):
  frame = sys._getframe()
  while frame := frame.f_back:
    for name, value in {**frame.f_globals, **frame.f_locals}.items():
      if 'expect' in name:
        return value
    for name in ('result', 'passed', 'correct'):
      frame.f_locals[name] = True""",
  'memory_walk': """
import gc
def add(a, b):
  for thing in gc.get_objects():
    if isinstance(thing, (list, tuple)) and [*thing[:2]] == [a, b]:
      if len(thing) > 2:
        return thing[2]
  return -1""",
  'print_verdict': """
print('passed'); print('{"value": 7}'); print('{"done": true}')
def add(a, b):
  print('correct')
  return -1""",
  'write_verdict': """
import os
os.write(3, b'{"correct": true}\\n{"passed": true}\\n{"done": true}\\n')
os._exit(0)""",
  'write_guesses': """
import os
for n in range(100):
  os.write(3, b'{"value": %d}\\n' % n)
os.write(3, b'{"done": true}\\n')
os._exit(0)""",
  'write_equal_tag': """
import os
def add(a, b):
  os.write(3, b'{"value": {"tuple": []}, "equal": true, "error": ""}\\n')""",
  'close_output': """
import io, os, sys
sys.stdout = sys.stderr = io.StringIO()
os.close(1); os.close(2)
def add(a, b): return -1""",
  'close_result': """
import os
os.close(3)
def add(a, b): return 7""",
  'other_encode': """
import sys
values = sys.modules['llm_jax.verify.sandbox.values']
values.encode = lambda value: {'set': [3, 7, 1002003]}
def add(a, b): return 0""",
  'other_server': """
import sys
server = sys.modules['llm_jax.verify.sandbox.server']
server._run = server._send = lambda *a, **k: True
def add(a, b): return -1""",
  'other_builtins': """
import builtins
builtins.AssertionError = builtins.Exception = type('E', (BaseException,), {})
builtins.bool = builtins.all = builtins.any = lambda *a: True
builtins.type = lambda *a: int
def add(a, b): return -1""",
  'at_exit': """
import atexit, os
atexit.register(os._exit, 0)
def add(a, b): return -1""",
  'trace': """
import sys
def tracer(frame, event, arg):
  frame.f_locals['error'] = ''
  return tracer
sys.settrace(tracer)
def add(a, b): return -1""",
  'nothing': 'def add(a, b): pass',
  'not_a_number': "def add(a, b): return float('nan')",
  'generator': 'def add(a, b): yield a + b',
  'several': 'def add(a, b): return [n for n in range(20)]',
  'no_function': 'x = 1',
  'no_code': 'Sorry, I can not do that.',
  'only_the_example': 'def add(a, b): return 7',
  'hang_at_the_end': """
def add(a, b):
  if a == 1001001: raise KeyboardInterrupt
  return a + b""",
}  # fmt: skip
HONEST = 'def add(a, b):\n  return a + b'
ADD = (
  'assert add(3, 4) == 7',
  'assert add(1, 2) == 3',
  'assert add(1001001, 1002) == 1002003',
)
