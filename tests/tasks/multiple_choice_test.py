"""Which letter an answer gives, in the forms that chat models write."""

import pytest

from llm_jax.tasks import multiple_choice

TASK = multiple_choice.MultipleChoice()
ROW = {'question': '2+2?', 'choices': ['3', '4', 'a cat'], 'answer': 1}
ANSWERS = {
  'B': [
    'B', 'b', '(B)', 'B.', 'B. 4', 'B) 4', '**B**', 'The answer is B.', '4',
    'Answer: (B) 4', '#### B', '\\boxed{B}', 'A.\nNo. The answer is B',
    'the answer is: B', '\\boxed{\\text{B}}', 'the answer is b', '(b)',
    'Option B', '[B]', '"4"', 'The correct option is B',
    'The correct option is b.', 'The answer is 4', 'The answer is "4".',
    'B: 4', 'B - 4', 'The answer is **B**', 'Answer: **B. 4**', '\\text{(B)}',
    '$B$', '`B`', 'The correct answer is (B) 4.', 'B is correct.',
    'B is the correct answer', '**Answer:** B', 'answer: b) 4',
    '**Answer**: (b)', 'The answer is option B', 'Final Answer: B',
    'The answer is $\\boxed{\\textbf{(B)}}$.', '- B', 'b) 4', '(b) 4',
    '#### Option B', 'The correct choice is B, since 2+2 is 4.',
    'The answer is B because A is too small.', 'Answer:\n\nB',
    'The best answer is [B].', "The answer is 'B'", '\\boxed{\\mathrm{B}}',
    '\\(B\\)', 'Answer: b', '**B) 4**', '<think>A or C</think>B',
    '\\boxed{B. 4}', '\\boxed{\\text{B) 4}}', '\\boxed{4}',
    'A. 3 is wrong.\n\nThe answer is B', 'Choice B', 'B.\n',
    'Correct answer: B', 'The answer is (b).', 'A is wrong.\nB is right.',
  ],
  'C': [
    'The answer is a cat', 'a cat', 'C. a cat', 'C', 'Answer: "A cat."',
  ],
  # Two letters are none, and neither are the choices again.
  'not B': [
    'A', 'C', '', 'BB', '3', 'a 4', 'Be', 'B or A\nA', 'answer is Banana',
    'The answer is a cat', 'B.\nA.', 'Answer: B. No: answer: A', 'Ｂ', 'AB',
    'A. 3\nB. 4\nC. a cat', 'I think B', 'The answer is B and C', 'B or C',
    'B, C', '(A) and (B)', '\\boxed{B, C}', 'Both A and B', 'A/B', 'not B',
    'The answer is not B', 'answer is A or B', 'B and C are correct',
    'The answer is either A or B', '\\boxed{A} and \\boxed{B}',
    '\\boxed{A}, \\boxed{B}', 'A and B', 'A, B', 'A\nB',
    'The answers are A and B', 'A. 3\nB. 4', '(A) 3\n(B) 4', '(A), (B)',
    'B) 4 or C) 5', 'A or B is correct', 'A and B is correct',
    'The answer is A, B', 'the answer is a or b', 'the answer is b or a',
    'Neither B nor C', 'The answer is B/C', 'The answer is (B) or (C)',
    'The answer is B & C', 'Answer: A, B, C', 'Answer: A B', '34', '4 or 3',
    'A: 3\nB: 4\nC: a cat', 'ABC', 'b c', '<think>B',
    'The answer is B or maybe C.', 'B? C?', 'The answer is B, or C',
  ],
  'not C': [
    'A. 3\nB. 4\nC. a cat', 'A\nB\nC', '(A) 3 (B) 4 (C) a cat', 'A, B, C',
    'A. 3\n\nB. 4\n\nC. a cat', '- A. 3\n- B. 4\n- C. a cat', 'a cat or 4',
  ],
}  # fmt: skip


@pytest.mark.parametrize('expected', ANSWERS)
def test_letters(expected):
  right = 'ABC'.index(expected[-1])
  problem = TASK.read({**ROW, 'answer': right})
  for answer in ANSWERS[expected]:
    score = TASK.score(problem, answer)
    assert score.correct == ('not' not in expected), (answer, score.reason)
    assert score.reason
