import numpy as np
import pandas as pd
import pytest
import torch
from lifelines.utils import concordance_index
from sklearn.metrics import roc_auc_score

from lib.fusion.heads import HEADS
from lib.fusion.model import Fusion
from lib.fusion.params import FusionParams
from lib.fusion.tokens import Inputs
from lib.fusion.train import Batch, Member, Problem, choice, descend, losses, scored, settings_of, train
from lib.training.discrete_time import survival_nll
from lib.training.folds import Fold

SIZES = {"clinic": 3, "genes": 8, "mutations": 5}
MEMBERS = [Member(1, 3e-3, 1.0, 0.3), Member(2, 1e-2, 0.3, 0.0), Member(1, 1e-3, 30.0, 0.6)]


def patients(n=80, seed=1, effect=2.0, binary=False) -> Inputs:
    random = np.random.default_rng(seed)
    columns = {name: random.standard_normal((n, k)).astype(np.float32) for name, k in SIZES.items()}
    risk = effect * (columns["clinic"][:, 0] + columns["genes"][:, 0]) / 2
    time, censored = random.exponential(20 * np.exp(-risk)), random.exponential(40, n)
    event = (risk + random.logistic(size=n) > 0) if binary else time <= censored
    present = random.random((n, 3)) > 0.1
    present[:, 0] = True
    parts = (np.zeros(n), np.zeros(n) if binary else np.minimum(time, censored), event)
    return Inputs(
        [f"p{number}" for number in range(n)],
        {name: torch.from_numpy(values) for name, values in columns.items()},
        torch.from_numpy(present),
        *(torch.from_numpy(part.astype(np.float32)) for part in parts),
    )


def halves(inputs: Inputs, parts=(0.75,)) -> Fold:
    cut = int(parts[0] * len(inputs.patients))
    return Fold("0", tuple(inputs.patients[:cut]), tuple(inputs.patients[cut:]))


def network(name: str, problem: Problem) -> Fusion:
    return Fusion(SIZES, HEADS[name], 8, len(problem.start), problem.start)


@pytest.mark.parametrize("name", HEADS)
def test_a_network_in_a_batch_is_the_network_trained_alone(name):
    # in double precision: Adam blows up the rounding of gradients that are next to nothing
    inputs = patients()
    exact = {key: values.double() for key, values in inputs.columns.items()}
    problem = Problem.of(inputs._replace(columns=exact, offset=inputs.offset.double()), 4)
    together = Batch(lambda: network(name, problem).double(), [member.seed for member in MEMBERS])
    # what a head draws itself falls otherwise beside others: only the first draws are the same
    members = MEMBERS if name != "spacrd" else MEMBERS[:1]
    together.rows = together.rows[: len(members)]
    torch.manual_seed(7)
    rows, _ = descend(together, members, problem.inputs, problem.outcome, 4, lambda rows: [0.5] * len(rows))
    for number, member in enumerate(members):
        torch.manual_seed(member.seed)
        alone = network(name, problem).double().train()
        adam = torch.optim.AdamW(alone.parameters(), member.learning_rate, weight_decay=member.weight_decay)
        draw = torch.Generator().manual_seed(member.seed)
        torch.manual_seed(7)
        for _ in range(4):
            stay = 1 - member.dropout
            kept = (torch.rand(80, 3, 8, generator=draw) < stay).double() / stay
            said = alone(problem.inputs.columns, problem.inputs.present, problem.inputs.offset, kept)
            loss = survival_nll(said.logits, problem.outcome.bin, problem.outcome.event).mean()
            if name == "spacrd":
                early = problem.outcome.early
                known = ~early.isnan()
                loss = loss + said.loss[known].gather(1, early[known].long()[:, None]).sum() / 80
            adam.zero_grad()
            loss.backward()
            adam.step()
        row = torch.nn.utils.parameters_to_vector(alone.parameters())
        torch.testing.assert_close(rows[number], row.detach(), rtol=1e-6, atol=1e-8)


def test_the_output_starts_at_the_hazards_of_the_training_patients():
    inputs = patients(400, effect=0.0)
    problem = Problem.of(inputs, 4)
    survived, hazards = 1.0, problem.start.sigmoid().numpy()
    for number, edge in enumerate(problem.edges[1:-1]):
        at_risk = inputs.time.numpy() >= problem.edges[number]
        died = at_risk & (inputs.time.numpy() < edge) & (inputs.event.numpy() == 1)
        assert hazards[number] == pytest.approx(died.sum() / at_risk.sum(), abs=1e-6)
        survived *= 1 - hazards[number]
    assert 0 < survived < 1
    label = Problem.of(patients(binary=True), 0)
    assert label.start.sigmoid().item() == pytest.approx(label.inputs.event.mean().item(), abs=1e-6)


def test_early_and_late_are_told_by_the_median_event_and_who_left_before_it_is_neither():
    inputs = patients()._replace(time=torch.arange(80.0) + 1, event=(torch.arange(80) % 2).float())
    early = Problem.of(inputs, 4).outcome.early
    median = inputs.time[inputs.event > 0].median()
    assert early[inputs.time > median].eq(0).all()
    here = inputs.time <= median
    assert early[here & (inputs.event == 1)].eq(1).all()
    assert early[here & (inputs.event == 0)].isnan().all()


def test_who_is_neither_early_nor_late_pays_no_more_than_the_likelihood():
    problem = Problem.of(patients(), 4)
    batch = Batch(lambda: network("spacrd", problem), [1])
    said = batch(batch.rows, problem.inputs)
    nobody = problem.outcome._replace(early=torch.full((80,), torch.nan))
    plain = said._replace(loss=0.0)
    torch.testing.assert_close(losses(said, nobody), losses(plain, nobody))
    assert losses(said, problem.outcome) > losses(plain, problem.outcome)


def test_settings_are_the_same_for_all_and_lie_in_their_ranges():
    settings = settings_of(8, 1)
    assert settings == settings_of(8, 1)
    rates, decays, dropouts = np.array([each[1:] for each in settings]).T
    assert len(set(rates)) == 8
    assert ((rates >= 1e-3) & (rates <= 3e-2)).all()
    assert ((rates * decays >= 1e-3) & (rates * decays <= 0.1)).all()
    assert ((dropouts >= 0) & (dropouts <= 0.6)).all()


def test_the_choice_is_the_best_mean_of_neighbouring_looks():
    values = {0: [0.5, 0.9, 0.5, 0.5, 0.5], 1: [0.6, 0.6, 0.7, 0.8, 0.7]}  # a single high look is luck
    looks = [(m, 5 * k, 0, v + s) for m, row in values.items() for k, v in enumerate(row, 1) for s in (-1, 1)]
    tried = MEMBERS[:2]
    table, best, epochs = choice(tried, pd.DataFrame(looks, columns=["member", "epoch", "loss", "watched"]))
    assert (best, epochs) == (tried[1], 20)
    assert table["chosen"].tolist() == [False, True]
    assert table["inner_c"][1] == pytest.approx((0.7 + 0.8 + 0.7) / 3)


HOW = FusionParams(width=8, trials=4, epochs=40, seeds=[1, 2])


def nested(fold: Fold) -> Fold:
    cut = len(fold.train) * 4 // 5
    return Fold("inner", fold.train[:cut], fold.train[cut:])


@pytest.mark.parametrize("name", ["concat", "rcsa", "spacrd"])
def test_a_strong_effect_is_found(name):
    inputs = patients(300)
    fold = halves(inputs)
    trained = train(HEADS[name], inputs, fold, [nested(fold)], [1, 2], HOW)
    scores = scored(trained, inputs.of(fold.test), [1, 2], [12.0, 36.0])
    tested = inputs.of(fold.test)
    for _, rows in scores.groupby("seed"):
        assert concordance_index(tested.time, -rows["score"], tested.event) > 0.65
        assert (rows["survival_12"] >= rows["survival_36"]).all()


def test_held_out_outcomes_change_no_score():
    inputs = patients(120)
    fold = halves(inputs)
    held = torch.tensor([one in fold.test for one in inputs.patients])
    event, time = torch.where(held, 1 - inputs.event, inputs.event), torch.where(held, 99.0, inputs.time)
    other = inputs._replace(event=event, time=time)
    one, again = (
        scored(train(HEADS["mean"], each, fold, [nested(fold)], [1], HOW), inputs.of(fold.test), [1], [12.0])
        for each in (inputs, other)
    )
    pd.testing.assert_frame_equal(one, again)


def test_a_label_is_learnt_and_scored_by_its_probability():
    inputs = patients(300, binary=True)
    fold, how = halves(inputs), HOW.model_copy(update={"outcome": "binary"})
    trained = train(HEADS["concat"], inputs, fold, [nested(fold)], [1], how)
    scores = scored(trained, inputs.of(fold.test), [1], [])
    assert list(scores) == ["seed", "patient", "score", "probability"]
    assert scores["probability"].between(0, 1).all()
    assert roc_auc_score(inputs.of(fold.test).event, scores["score"]) > 0.7


def test_numbers_that_are_none_end_the_training():
    inputs = patients()
    inputs.columns["genes"][0] = torch.nan
    problem = Problem.of(inputs, 4)
    batch = Batch(lambda: network("concat", problem), [1])
    with pytest.raises(ValueError, match="not finite"):
        descend(batch, MEMBERS[:1], inputs, problem.outcome, 2, lambda rows: [0.5])
