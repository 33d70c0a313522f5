"""Serves the documentation of Python's standard library as a web site.

  python -m tools.pydoc_site --port 8000

The pages are pydoc.HTMLDoc's own, over HTTP on loopback: a site that nobody
wrote for this project and that every machine with Python has. The pages are
the same each time one machine serves them, and hold nothing of the process
that serves them: the server runs with an empty environment and fixed string
hashing, constants are shown only when they are plain values, and memory
addresses and paths of this machine are replaced.

It does NOT serve installed packages, private modules, or modules that act when
they are imported, and does not listen on other interfaces.
"""

import html
import http.server
import importlib
import os
import pathlib
import pkgutil
import pydoc
import re
import sys
import sysconfig
import threading
import types
import warnings
from collections.abc import Iterator

from absl import app, flags, logging

_PORT = flags.DEFINE_integer('port', 0, 'TCP port on loopback; 0 takes any.')

# Parts of a module's name that keep it out: they open windows or browsers,
# print, exit, or belong to the tests of the library.
_SKIPPED_PARTS = frozenset(
  {
    '__main__',
    'antigravity',
    'idlelib',
    'lib2to3',
    'test',
    'tests',
    'this',
    'tkinter',
    'turtle',
    'turtledemo',
  }
)
# What the interpreter itself needs or sets; everything else could leak into a
# page (posix.environ, default arguments) and is removed.
_KEPT_ENVIRONMENT = frozenset(
  {
    'DYLD_LIBRARY_PATH',
    'LC_CTYPE',
    'LD_LIBRARY_PATH',
    'PYTHONHASHSEED',
    '__CF_USER_TEXT_ENCODING',
  }
)
_ADDRESS = re.compile(r'(\bat(?:&nbsp;|\s))0x[0-9a-fA-F]+')
_ROBOTS = 'User-agent: *\nDisallow: /private/\nSitemap: {site}/sitemap.xml\n'
_SITEMAPS = 'http://www.sitemaps.org/schemas/sitemap/0.9'


def module_names() -> list[str]:
  """Names of the public modules of the standard library, sorted."""
  stdlib = pathlib.Path(sysconfig.get_paths()['stdlib'])
  names = set()
  for name in sys.stdlib_module_names:
    names.add(name)
    if (stdlib / name).is_dir():
      names.update(_submodules(stdlib / name, name))
  return sorted(name for name in names if not _is_skipped(name))


def _submodules(folder: pathlib.Path, package: str) -> Iterator[str]:
  # Lists files and imports nothing, unlike pkgutil.walk_packages.
  for info in pkgutil.iter_modules([str(folder)], package + '.'):
    yield info.name
    if info.ispkg:
      yield from _submodules(folder / info.name.rpartition('.')[2], info.name)


def _is_skipped(name: str) -> bool:
  parts = name.split('.')
  return any(p in _SKIPPED_PARTS or p.startswith('_') for p in parts)


def import_modules(names: list[str]) -> dict[str, types.ModuleType]:
  """Imports all modules before any page is made.

  A page depends on which modules are loaded, so loading them on request would
  make the site depend on the order of the requests.

  Args:
    names: full module names, imported in this order.

  Returns:
    The modules that this machine can import; the others are logged.
  """
  modules = {}
  for name in names:
    try:
      modules[name] = importlib.import_module(name)
    except (ImportError, AttributeError, OSError) as error:
      # Modules of other platforms; AttributeError and OSError come from
      # modules that look for a constant or a library of another system.
      logging.info('no page for %s: %s', name, error)
  return modules


class Pages(pydoc.HTMLDoc):
  """pydoc's pages without what depends on the process or the machine."""

  def __init__(self, modules: dict[str, types.ModuleType]):
    self._modules = modules
    self._paths = _paths_of_this_machine()

  def filelink(self, url, path):
    """No link to the source file: its path belongs to this machine."""
    return ''

  def docother(self, object, name=None, mod=None, *ignored):
    """A constant: its value if that is a plain one, else only its type."""
    label = f'<strong>{name}</strong> = ' if name else ''
    if _is_plain(object):
      return label + self.repr(object)
    return label + self.escape(f'<{type(object).__name__} object>')

  def module_page(self, name: str) -> str:
    """The HTML page of one module."""
    page = self.page(name, self.document(self._modules[name], name))
    page = _ADDRESS.sub(r'\g<1>0x0', page)
    for path, placeholder in self._paths:
      page = page.replace(path, placeholder)
    return page

  def index_page(self) -> str:
    """The HTML page that links every module."""
    links = ''.join(
      f'<li><a href="{name}.html">{name}</a></li>' for name in self._modules
    )
    return self.page('Index of Modules', f'<ul>{links}</ul>')


def _is_plain(value) -> bool:
  if isinstance(value, tuple):
    return len(value) <= 20 and all(_is_plain(v) for v in value)
  return value is None or isinstance(value, bool | int | float | str)


def _paths_of_this_machine() -> list[tuple[str, str]]:
  paths = {
    sysconfig.get_paths()['stdlib']: '/python/lib',
    sys.executable: '/python/bin/python',
    sys.prefix: '/python',
    sys.base_prefix: '/python',
    os.getcwd(): '/home/user',
  }
  # '/usr' and the like say nothing about the machine and occur in prose.
  known = {path: to for path, to in paths.items() if path.count('/') >= 2}
  home = str(pathlib.Path.home())
  if home != '/':
    known.setdefault(home, '/home/user')
  return sorted(known.items(), key=lambda item: (-len(item[0]), item[0]))


def make_server(pages: Pages, names: list[str], port: int):
  """An HTTP/1.1 server of the pages on loopback.

  Args:
    pages: makes the pages.
    names: modules that have one.
    port: TCP port, 0 for any free one.

  Returns:
    The server, listening; the caller runs serve_forever.
  """
  paths = {f'/{name}.html': name for name in names}
  lock = threading.Lock()  # pydoc keeps state while it renders

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
      path = self.path.partition('?')[0]
      # Under the name that the client knows the site by.
      site = html.escape(f'http://{self.headers.get("Host", "127.0.0.1")}')
      if path == '/robots.txt':
        self._send(200, 'text/plain', _ROBOTS.format(site=site))
      elif path == '/sitemap.xml':
        listed = ''.join(f'<url><loc>{site}{p}</loc></url>' for p in paths)
        text = f'<urlset xmlns="{_SITEMAPS}">{listed}</urlset>'
        self._send(200, 'application/xml', text)
      elif path in ('/', '/index.html'):
        self._send(200, 'text/html', pages.index_page())
      elif path in paths:
        with lock:
          page = pages.module_page(paths[path])
        self._send(200, 'text/html', page)
      else:
        self._send(404, 'text/html', '<p>No such module.</p>')

    def _send(self, status: int, content_type: str, text: str):
      body = text.encode('utf-8', 'replace')
      self.send_response(status)
      self.send_header('Content-Type', f'{content_type}; charset=utf-8')
      self.send_header('Content-Length', str(len(body)))
      self.end_headers()
      self.wfile.write(body)

    def log_message(self, format, *args):
      logging.debug(format, *args)

  server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
  server.daemon_threads = True
  return server


def main(_):
  """Serves until it is ended; starts itself again in a bare environment."""
  kept = {k: v for k, v in os.environ.items() if k in _KEPT_ENVIRONMENT}
  kept['PYTHONHASHSEED'] = '0'  # the order of sets in default arguments
  if kept != dict(os.environ):
    command = [sys.executable, '-m', 'tools.pydoc_site']
    command.append(f'--port={_PORT.value}')
    os.execve(sys.executable, command, kept)
  warnings.simplefilter('ignore')  # deprecated modules are documented too
  modules = import_modules(module_names())
  server = make_server(Pages(modules), list(modules), _PORT.value)
  print(f'http://127.0.0.1:{server.server_address[1]}/', flush=True)
  server.serve_forever()


if __name__ == '__main__':
  app.run(main)
