"""The two scripts of replay pages: walking through turns, and filtering the list of a run."""

WALK = """
const turns = [...document.querySelectorAll('.turn')];
let at = -1;
function go(to) {
  at = Math.max(0, Math.min(turns.length - 1, to));
  turns[at].focus({preventScroll: true});
  turns[at].scrollIntoView({block: 'start'});
}
document.addEventListener('focusin', event => {
  const turn = event.target.closest('.turn');
  if (turn) at = turns.indexOf(turn);
});
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !turns.length) return;
  if (event.key === 'ArrowRight' || event.key === 'j') go(at + 1);
  else if (event.key === 'ArrowLeft' || event.key === 'k') go(at - 1);
  else if (event.key === 'g') document.getElementById('gold').click();
  else if (event.key === 'h' && document.getElementById('heat')) document.getElementById('heat').click();
  else return;
  event.preventDefault();
});
if (document.body.classList.contains('follow') && turns.length) turns.at(-1).scrollIntoView({block: 'start'});
"""
"""Keys of an episode: right or j, left or k, g for the gold evidence, h for the log-prob heat."""

FILTER = """
const rows = [...document.querySelectorAll('tbody tr')];
const controls = [...document.querySelectorAll('.filters select, .filters input')];
const shown = document.getElementById('shown');
function apply() {
  const want = Object.fromEntries(controls.map(c => [c.name, c.type === 'checkbox' ? c.checked : c.value]));
  let count = 0;
  for (const row of rows) {
    const d = row.dataset;
    const fits = (!want.outcome || d.outcome === want.outcome)
      && (!want.policy || d.policy === want.policy)
      && (!want.type || d.types.split('\\n').includes(want.type))
      && (!want.turns || d.turns === want.turns)
      && (!want.invalid || d.invalid !== '0')
      && (!want.words || row.textContent.toLowerCase().includes(want.words.toLowerCase()));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = count;
}
for (const control of controls) control.addEventListener('input', apply);
apply();
"""
"""Filters of a run: by outcome, policy, type, number of turns, invalid turns and words."""
