"""Fixtures of several tests: a site, the small corpus, and a run over it."""

import subprocess

import pytest

from tests.web import bad_site, corpus


@pytest.fixture
def site():
  """A site on loopback that has no robots.txt."""
  with bad_site.serve() as running:
    running.answers['/robots.txt'] = (404, {}, b'')
    yield running


@pytest.fixture(scope='module')
def warcs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('warcs')
  corpus.write(folder)
  return folder


@pytest.fixture(scope='module')
def finished(warcs, tmp_path_factory):
  """A run that nothing disturbed."""
  workdir = tmp_path_factory.mktemp('clean')
  subprocess.run(corpus.command(warcs, workdir), cwd=corpus.ROOT, check=True)
  return workdir
