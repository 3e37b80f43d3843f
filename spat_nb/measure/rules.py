"""What the gates of a trust card ask, and what a flag means"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Rule", "RULES", "WATCHED"]


class Rule(NamedTuple):
    "What a gate asks, and what to make of a flag"

    asks: str  # the figure and its unit
    limit: float  # a higher figure is a flag, if luck cannot explain it
    means: str  # what a flag means
    then: str  # what to try next


RULES = {
    k: Rule(*v)
    for k, v in {
        "G1 logits": (
            "answers that are probabilities, %",
            0,
            (
                "The model ends in a softmax; the loss adds a second one, and the gradient is"
                " nearly gone."
            ),
            (
                "Return logits: leave out the last softmax. The other gates looked at the logarithm"
                " of the answers."
            ),
        ),
        "G1 float32": (
            "numbers in half precision, %",
            0,
            "Small gradients and small steps are rounded away.",
            "Evaluate with model.float().",
        ),
        "G1 repeats": (
            "change when asked again, % of the logits",
            0.01,
            (
                "The model rolls dice: one gradient is one roll, and the attack aims at a moving"
                " target."
            ),
            (
                "Switch off a dropout that was left on; else attack the average: Attack(...,"
                " eot=20), or AutoAttack 'rand'."
            ),
        ),
        "G1 alone": (
            "change in other company, % of the logits",
            1,
            "An answer depends on the images beside it: a batch norm runs in train mode.",
            "Put every layer in eval mode, and let the model not call train() itself.",
        ),
        "G1 mode": (
            "things that a mere look changes",
            0,
            "Looking at the model changes it, so no two measurements are of the same model.",
            "Find the layer that leaves eval mode or moves its statistics.",
        ),
        "G1 search": (
            "gradients taken inside an answer",
            0,
            (
                "The model runs a search of its own before it answers; plain gradients do not see"
                " through it."
            ),
            "Attack through the search (unrolled), or without gradients and with many queries.",
        ),
        "G1 ball": (
            "attacked images outside the ball, %",
            0,
            (
                "The attack goes further than eps from the clean image: wrong unit, or projected"
                " around another point."
            ),
            "Project around the clean image, as the last step; eps counts in pixels of [0,1].",
        ),
        "G1 box": (
            "attacked images outside [0,1], %",
            0,
            "The attack returns what is no image.",
            "Clamp to [0,1] last; return pixels, not normalised values.",
        ),
        "G1 reach": (
            "part of eps that no image uses, %",
            10,
            (
                "The attack stays well inside the ball: eps is too small by a factor, or counts"
                " normalised values."
            ),
            "Compare max|x_adv - x| with eps; normalise in the model's first layer only.",
        ),
        "G1 manners": (
            "things that the attack changed",
            0,
            (
                "The attack leaves model or data in another state, and later numbers are of that"
                " state."
            ),
            "Restore mode, weights, .grad and the clean images.",
        ),
        "G1 numbers": (
            "answers that are NaN or infinite, %",
            0,
            (
                "The model has no answer to some attacked images; they count as fallen here, and as"
                " what the arg max makes of NaN elsewhere."
            ),
            "Look for a log, a root or a division in its forward that is not defined there.",
        ),
        "G2 order": (
            "longer attack weaker than shorter, points",
            1,
            "More effort finds less, so the gradient does not lead where the loss is high.",
            "Look at G7; attack without gradients, or from many starts.",
        ),
        "G3 loss": (
            "fall of the loss from its peak, %",
            10,
            (
                "The loss goes down: a wrong sign, steps far too large, or a gradient that is not"
                " the loss's own."
            ),
            "Look at the Recorder; halve lr; look at G7.",
        ),
        "G3 doubling": (
            "more steps find more, points",
            3,
            "The attack has not arrived: the number would fall with more steps.",
            "Double the steps until nothing changes.",
        ),
        "G4 starts": (
            "more starts find more, points",
            3,
            "The landscape is rugged: where the attack ends is a matter of luck.",
            "More restarts, or APGD; smooth the gradient by averaging over noise (eot).",
        ),
        "G5 falls": (
            "accuracy rises with eps, points",
            3,
            (
                "A larger ball holds the smaller one, so the attack at the larger eps missed what"
                " it could have found."
            ),
            "Look at G3 and G7.",
        ),
        "G5 grey": (
            "accuracy over chance at full grey, points",
            2,
            (
                "At this eps every image can be made the same grey one, so no model can do better"
                " than chance: the attack does not work."
            ),
            "Look at G7 and G8, and attack without gradients.",
        ),
        "G6 square": (
            "only Square finds, points",
            1,
            "An attack without gradients finds what gradients do not: the gradient is hidden.",
            (
                "Replace what hides it by something smooth, in the backward pass only (BPDA), and"
                " attack again."
            ),
        ),
        "G6 transfer": (
            "only transfer finds, points",
            1,
            (
                "Images made for another network fool this one, its own gradients do not find them:"
                " the gradient is hidden."
            ),
            "As for Square; give a closer surrogate=.",
        ),
        "G7 zero": (
            "images without any gradient, %",
            0,
            "Nothing to follow: saturated logits, a rounding layer, or a graph that is cut.",
            "Use margin or dlr instead of ce; for a cut graph BPDA, or Square.",
        ),
        "G7 finite": (
            "images whose gradient is NaN or infinite, %",
            0,
            (
                "At some pixels there is no gradient: a root or a logarithm at 0, or 0/0. What"
                " follows it may stand still, or return NaN."
            ),
            "Keep clear of the pole, x.clamp_min(1e-3), and attack without gradients too.",
        ),
        "G7 true": (
            "error of the gradient, % of its length",
            15,
            (
                "The gradient is not the function's: a detached part, a straight-through layer,"
                " dice, or a wrong backward."
            ),
            (
                "Attack without gradients; let the gradient flow through all parts; check against"
                " finite differences."
            ),
        ),
        "G8 losses": (
            "other losses and scales find more, points",
            5,
            (
                "The number hangs on the loss, or on the scale of the logits, which no answer"
                " depends on."
            ),
            (
                "Report the worst over ce, margin and dlr, at a scale that suits the logits:"
                " tempered(ce, s)."
            ),
        ),
        "G8 scale": (
            "knowledge over confidence, both over chance",
            5,
            (
                "The logits are far smaller than what the model knows, so ce pushes towards all"
                " wrong classes alike instead of the nearest."
            ),
            (
                "Use margin or dlr, or tempered(ce, s) with a large s; look for a factor on the"
                " logits."
            ),
        ),
        "G9 stronger": (
            "stronger attacks find more, points",
            3,
            "The number is an overestimate: use the lower one.",
            "Report AutoAttack, and write an attack for what is special in this model.",
        ),
        "G9 claim": (
            "claim above the lowest found, points",
            2.5,
            (
                "All attacks together fool more images than the claimed number knows of; each of"
                " them alone may have found few."
            ),
            "Publish the lowest number; count an image as robust only where nothing broke it.",
        ),
        "G10 both": (
            "checkpoints missing of best and last",
            0,
            "Without the last checkpoint nobody sees what was gained by choosing.",
            "Evaluate and report both.",
        ),
        "G10 chosen": (
            "validation looks missing",
            0,
            (
                "Nothing says that the best was chosen on held-out images; chosen on test images,"
                " it is too good."
            ),
            "Train with the callbacks Validate(data.valid, ...) and Best().",
        ),
        "G11 seeds": (
            "seeds missing of three",
            0,
            "One or two runs do not show how much is luck.",
            "Train with three seeds and report all.",
        ),
    }.items()
}


# seen while all others are at work, and judged at the end
WATCHED = ("G1 numbers", "G7 finite", "G9 claim")
