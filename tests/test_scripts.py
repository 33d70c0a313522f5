"""The shell scripts: setting up, the order of the stages, starting over.

They run in a copy of the scripts where `.venv/bin/python` writes down what it
is asked to do instead of doing it.
"""

import itertools
import pathlib
import re
import shutil
import sys

import pytest

from tests import shell

ROOT = pathlib.Path(__file__).resolve().parent.parent

_SPEEDRUN = ('pretrain', 'sft', 'rl_seed0', 'rl_seed1', 'rl_seed2', 'rl_zero')
_FAKE_PYTHON = f"""#!/bin/sh
case "$1 $2" in
  "-c "*) exec {sys.executable} "$@" ;;
esac
echo "$*" >> log
case "$*" in
  *experiments.report*)
    mkdir -p runs/speedrun/report
    echo '| table |' | tee runs/speedrun/report/report.md ;;
  *"${{FAIL_AT:-nothing}}"*) exit 7 ;;
esac
"""


@pytest.fixture
def copy(tmp_path):
  shutil.copytree(ROOT / 'tools', tmp_path / 'tools')
  for name in ('setup.py', 'constraints.txt', 'pyproject.toml'):
    shutil.copy(ROOT / name, tmp_path / name)
  shell.executable(tmp_path / '.venv/bin/python', _FAKE_PYTHON)
  return tmp_path


def _log(copy) -> list[str]:
  return (copy / 'log').read_text().splitlines()


class TestSpeedrun:
  def test_stages_in_order(self, copy):
    done = shell.call(copy, 'tools/speedrun.sh')
    assert done.returncode == 0, done.stderr
    names = [line.split('experiments.')[-1].split()[0] for line in _log(copy)]
    assert ' '.join(names[1:]) == (
      'crawl clean train_tokenizer tokenize pretrain sft rl rl rl rl evaluate '
      'evaluate report'
    )
    assert _log(copy)[0].startswith('-m pip install')
    assert done.stdout.count('| table |') == 1
    for name in names[1:]:  # each says what it is for
      assert re.search(
        rf'^== {name} [(]runs/speedrun/\w+[)]: \w', done.stdout, re.M
      )
    assert re.fullmatch(
      r'Done in \d+ min \d+ s; to chat: .* experiments.chat .*',
      done.stdout.splitlines()[-1],
    )

  def test_second_call_installs_nothing(self, copy):
    shell.call(copy, 'tools/speedrun.sh')
    (copy / 'log').unlink()
    shell.call(copy, 'tools/speedrun.sh')
    assert not [line for line in _log(copy) if 'pip' in line]
    (copy / 'constraints.txt').write_text('# changed\n')
    shell.call(copy, 'tools/speedrun.sh')
    assert len([line for line in _log(copy) if 'pip' in line]) == 1

  def test_each_installs_what_it_uses(self, copy):
    """The speedrun neither checks types nor cleans on a cluster."""
    shell.call(copy, 'tools/speedrun.sh')
    assert _log(copy)[0].endswith('--editable .[report,web]')
    # Tests add what they need; then the speedrun finds all there.
    shell.call(copy, 'tools/test.sh', 'nothing')
    line = next(line for line in _log(copy)[1:] if 'pip' in line)
    assert line.endswith('--editable .[beam,report,test,web]')
    (copy / 'log').unlink()
    shell.call(copy, 'tools/speedrun.sh')
    shell.call(copy, 'tools/test.sh', 'nothing')
    assert not [line for line in _log(copy) if 'pip' in line]

  def test_from_another_folder(self, copy, tmp_path_factory):
    folder = tmp_path_factory.mktemp('elsewhere')
    done = shell.call(folder, str(copy / 'tools/speedrun.sh'))
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())

  def test_a_failing_stage_ends_it(self, copy):
    done = shell.call(copy, 'tools/speedrun.sh', FAIL_AT='experiments.sft')
    assert done.returncode == 7
    assert 'experiments.sft' in _log(copy)[-1]

  def test_a_failing_installation_is_repeated(self, copy):
    for _ in range(2):
      done = shell.call(copy, 'tools/speedrun.sh', FAIL_AT='pip')
      assert done.returncode == 7
    assert all('pip' in line for line in _log(copy))
    assert len(_log(copy)) == 2

  @pytest.mark.parametrize('argument', ['--frsh', 'x', '--fresh x'])
  def test_unknown_argument(self, copy, argument):
    done = shell.call(copy, 'tools/speedrun.sh', *argument.split())
    assert done.returncode == 2
    assert 'the only one is --fresh' in done.stderr
    assert not (copy / 'log').exists()

  def test_fresh(self, copy):
    for name in ('crawl', 'pretrain/checkpoints', 'rl_zero'):
      (copy / 'runs/speedrun' / name).mkdir(parents=True)
    (copy / 'runs/other').mkdir()
    done = shell.call(copy, 'tools/speedrun.sh', '--fresh')
    assert done.returncode == 0, done.stderr
    left = sorted(p.name for p in (copy / 'runs').rglob('*'))
    assert left == ['other', 'report', 'report.md', 'speedrun']

  @pytest.mark.parametrize('name', ['notes.txt', '.hidden', 'my model'])
  def test_fresh_keeps_what_is_not_its_own(self, copy, name):
    (copy / 'runs/speedrun/crawl').mkdir(parents=True)
    (copy / 'runs/speedrun' / name).write_text('mine')
    done = shell.call(copy, 'tools/speedrun.sh', '--fresh')
    assert done.returncode == 1
    assert f'runs/speedrun/{name} is no stage' in done.stderr
    assert (copy / 'runs/speedrun/crawl').is_dir()
    assert not (copy / 'log').exists()

  @pytest.mark.parametrize(
    'link', ['runs', 'runs/speedrun', 'runs/speedrun/sft']
  )
  def test_fresh_follows_no_link(self, copy, link, tmp_path_factory):
    target = tmp_path_factory.mktemp('target')
    (target / 'crawl').mkdir()
    (copy / link).parent.mkdir(parents=True, exist_ok=True)
    (copy / link).symlink_to(target)
    done = shell.call(copy, 'tools/speedrun.sh', '--fresh')
    assert done.returncode == 1
    assert (target / 'crawl').is_dir()


def _evaluated(copy) -> tuple[set[str], list[str]]:
  """Folders that RL trained, and those evaluated; all trained before."""
  trained = {f'runs/speedrun/{name}' for name in _SPEEDRUN}
  by_rl, evaluated = set(), []
  for line in _log(copy):
    words = line.split()
    named = []
    for flag, value in itertools.pairwise(words):
      name, _, folder = value.rpartition('=')
      if flag in ('--restore_from', '--checkpoint'):
        assert folder in trained, line
      if flag == '--checkpoint':
        assert folder.endswith(name) or folder.startswith('runs/speedrun/')
        named.append((name, folder))
      if flag == '--workdir':
        trained.add(value)
        by_rl |= {value} if 'experiments.rl ' in line else set()
    names, folders = zip(*named, strict=True) if named else ((), ())
    assert len(set(names)) == len(set(folders)) == len(named), line
    evaluated += folders
  return by_rl, evaluated


class TestShowAssistant:
  def test_what_is_evaluated_was_trained(self, copy):
    done = shell.call(copy, 'tools/show_assistant.sh')
    assert done.returncode == 0, done.stderr
    by_rl, evaluated = _evaluated(copy)
    assert by_rl
    assert by_rl <= set(evaluated)
    # What is searched is there before anyone searches.
    log = _log(copy)
    first = next(i for i, line in enumerate(log) if 'rl_search.gin' in line)
    assert '-m examples.facts --to runs/show/facts/documents' in log[:first]


class TestShowRl:
  def test_what_is_evaluated_was_trained(self, copy):
    done = shell.call(copy, 'tools/show_rl.sh', 'gsm8k.jsonl')
    assert done.returncode == 0, done.stderr
    by_rl, evaluated = _evaluated(copy)
    assert len(by_rl) == 25
    assert by_rl <= set(evaluated)
    assert len(evaluated) == 42

  def test_word_problems_only_of_a_file(self, copy):
    assert shell.call(copy, 'tools/show_rl.sh').returncode == 0
    assert not [line for line in _log(copy) if 'WordProblems' in line]

  def test_a_failing_stage_ends_it(self, copy):
    done = shell.call(copy, 'tools/show_rl.sh', FAIL_AT='multiplication/sft')
    assert done.returncode == 7
    assert 'multiplication/sft' in _log(copy)[-1]


class TestShowRlhf:
  def test_what_is_evaluated_was_trained(self, copy):
    done = shell.call(copy, 'tools/show_rlhf.sh')
    assert done.returncode == 0, done.stderr
    by_rl, evaluated = _evaluated(copy)
    of = {
      name: {path for path in by_rl if path.startswith(f'runs/show/{name}/')}
      for name in ('rlhf', 'ease', 'keeps')
    }
    assert {name: len(own) for name, own in of.items()} == {
      'rlhf': 6, 'ease': 2, 'keeps': 6
    }  # fmt: skip
    assert of['keeps'] <= set(evaluated)
    # Answers are ranked before anything learns from rankings.
    log = _log(copy)
    ranks, learns = (
      next(i for i, line in enumerate(log) if text in line)
      for text in ('--policy runs/show/rlhf/sft', 'rankings.jsonl')
    )
    assert ranks < learns

  def test_one_of_both(self, copy):
    assert shell.call(copy, 'tools/show_rlhf.sh', 'keeps').returncode == 0
    assert not [line for line in _log(copy) if 'taste' in line]


class TestVenv:
  def _pythons(self, copy, **versions: tuple[str, bool]) -> str:
    """Fake interpreters: name -> (version, whether it can make a venv)."""
    for name, (version, has_venv) in versions.items():
      numbers = ', '.join(version.split('.'))
      shell.executable(
        copy / 'bin' / name.replace('_', '.'),
        '#!/bin/sh\ncase "$2" in\n  *version_info*)\n'
        '    code=$(echo "$2" | /usr/bin/env -S PATH=/usr/bin:/bin sed '
        f"'s/sys.version_info.:2./({numbers})/')\n"
        f'    exec {sys.executable} -c "$code" ;;\n'
        f'  *ensurepip*) exit {int(not has_venv)} ;;\n'
        '  *) echo "unexpected $*"; exit 9 ;;\nesac\n',
      )
    return str(copy / 'bin')

  def _find(self, copy, path):
    return shell.call(
      copy, '-c', 'source tools/venv.sh; find_python', PATH=path
    )

  @pytest.mark.parametrize(
    ('pythons', 'chosen'),
    [
      ({'python3': ('3.11', True), 'python3_13': ('3.13', True)}, 'python3'),
      ({'python3': ('3.9', True), 'python3_12': ('3.12', True)}, 'python3.12'),
      ({'python3': ('3.14', True), 'python3_13': ('3.13', True)}, 'python3.13'),
      (
        {'python3': ('3.11', False), 'python3_11': ('3.11', True)},
        'python3.11',
      ),
    ],
  )
  def test_choice(self, copy, pythons, chosen):
    done = self._find(copy, self._pythons(copy, **pythons))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == chosen

  @pytest.mark.parametrize(
    ('pythons', 'message'),
    [
      ({'python3': ('3.9', True)}, 'Python 3.11, 3.12 or 3.13 is needed'),
      ({'python3': ('3.12', False)}, 'apt install python3-venv'),
    ],
  )
  def test_none(self, copy, pythons, message):
    done = self._find(copy, self._pythons(copy, **pythons))
    assert done.returncode == 1
    assert message in done.stderr

  def test_script_ends_without_python(self, copy):
    shutil.rmtree(copy / '.venv')
    path = self._pythons(copy, python3=('3.9', True)) + ':/usr/bin:/bin'
    for version in ('3.11', '3.12', '3.13'):
      (copy / 'bin' / f'python{version}').symlink_to('/bin/false')
    done = shell.call(copy, 'tools/test.sh', PATH=path)
    assert done.returncode == 1
    assert 'is needed' in done.stderr
    assert not (copy / '.venv').exists()
