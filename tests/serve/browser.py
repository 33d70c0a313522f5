"""A headless Chromium for tests, and what is wrong with a page in it."""

import contextlib
import pathlib
import shutil

import pytest

# Chromium's own line about each refused request; the page shows the reason.
_REFUSED = 'Failed to load resource: the server responded with a status of 400'
_MISSING = (
  'needs a browser: apt-get install chromium, '
  'and pip install playwright axe-core-python'
)


@contextlib.contextmanager
def chromium():
  """Debian's Chromium; skips where there is none, and says what to install."""
  reason = _MISSING
  sync_api = pytest.importorskip('playwright.sync_api', reason=reason)
  path = shutil.which('chromium') or shutil.which('chromium-browser')
  if path is None:
    pytest.skip(reason)
  with sync_api.sync_playwright() as driver:
    # Root may not use Chromium's own sandbox; only our page is opened in it.
    browser = driver.chromium.launch(
      executable_path=path, args=['--no-sandbox']
    )
    yield browser
    browser.close()


def axe_violations(page) -> list[str]:
  """What axe-core finds on a page as it is: each rule, and where."""
  package = pytest.importorskip('axe_core_python', reason=_MISSING)
  script = pathlib.Path(package.__file__).with_name('axe.min.js')
  if not page.evaluate('typeof window.axe === "object"'):
    page.evaluate(script.read_text(encoding='utf-8'))
  found = page.evaluate('axe.run()')
  assert found['passes'], 'axe-core looked at nothing'
  return [
    f'{rule["id"]}: {rule["help"]}: {[n["html"][:120] for n in rule["nodes"]]}'
    for rule in found['violations']
  ]


def watched(page, origin: str) -> list[str]:
  """A list that grows by each error, and each request to another host."""
  faults = []

  def log(message):
    is_refusal = message.text.startswith(_REFUSED)
    if message.type in ('error', 'warning') and not is_refusal:
      faults.append(message.text)

  def ask(request):
    if not request.url.startswith((origin, f'blob:{origin}')):
      faults.append(f'asks {request.url}')

  page.on('console', log)
  page.on('pageerror', lambda error: faults.append(str(error)))
  page.on('request', ask)
  return faults
