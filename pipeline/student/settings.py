"""Settings of `evoloom train`. The parameters of a method are in the section `methods`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.sections import OPERATIONAL, Section


class TrainingSettings(Section):
    """How a student is trained: data, optimiser, checkpoints. All but a few are pinned in the
    manifest of the training run."""

    base: Path | None = None
    """Folder of the base model (Hugging Face); unset: the bundled SmolLM2-135M-Instruct."""
    method: str = Field(default="lora", min_length=1)
    """What is trained: the name of a method; its parameters are `methods.NAME`."""
    template: Literal["auto", "chat", "alpaca"] = "auto"
    """How prompts are written. `chat`: the base model's own template; `alpaca`: Alpaca's layout, for
    base models without one; `auto`: `chat` if the tokenizer has a template."""
    max_length: PositiveInt = 1024
    """Longest example in tokens, prompt and response; at most what the base model knows."""
    too_long: Literal["truncate", "drop"] = "truncate"
    """What becomes of a longer example: its end is cut off, or it is left out. Either is counted; one
    of whose response nothing is left is left out in any case."""
    held_out: float = Field(default=0.05, gt=0, lt=1)
    """Share of the examples that is not trained on, whole lineages at a time."""
    held_out_most: PositiveInt = 200
    """The share is made smaller where it would hold out more examples than that."""
    split_seed: NonNegativeInt = 0
    """What the held-out lineages are drawn from: trainings of one dataset hold out the same."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Number format of the computation and of weights that are not trained; what is trained is kept
    in float32. `auto`: bfloat16 on a GPU, and on a CPU that computes in it."""
    epochs: PositiveFloat = 3.0
    """Passes over the training examples."""
    max_steps: PositiveInt | None = None
    """Optimiser steps after which training ends, whatever `epochs` says; unset: no limit."""
    batch_size: PositiveInt = 8
    """Examples computed at once, on each device."""
    accumulation: PositiveInt = 1
    """Batches whose gradients make one optimiser step."""
    learning_rate: PositiveFloat | None = None
    """Peak of the learning rate; unset: the method's own."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    final_learning_rate: NonNegativeFloat = 0.0
    """What the learning rate falls to, where it falls."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of all steps in which the learning rate rises from 0."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's weight decay."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's first moment's decay."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """AdamW's second moment's decay."""
    residual_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on what the last layer's branches add, in training; earlier layers have less of it, the
    first none (LIMA: 0.3)."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are scaled down to this norm; 0: never."""
    by_length: bool = True
    """Put examples of like length in a batch, so that less is padded. Batches are drawn in random
    order either way."""
    packing: bool = False
    """Put several examples into one row of `max_length` tokens, each computed as if alone. Needs a GPU
    with FlashAttention (package `flash-attn`), whose kernel keeps them apart at no cost."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a
    third slower."""
    evaluate_every: PositiveInt | None = None
    """Steps between two measurements of the held-out loss; unset: after each epoch."""
    early_stopping: PositiveInt | None = None
    """Stop when the held-out loss has not improved for that many measurements, and keep the student
    with the best one; unset: train to the end."""
    save_every: PositiveInt = 50
    """Steps between two checkpoints, from which a killed training goes on."""
    keep_checkpoints: NonNegativeInt = 1
    """Checkpoints kept beside the latest and the best."""
    processes: NonNegativeInt = 0
    """Processes that train together, one a GPU, through `accelerate launch`; 0: one for each GPU, or
    a single one without. More than one on a CPU share its cores."""
    report_to: tuple[Literal["tensorboard", "mlflow"], ...] = Field(
        default=("tensorboard",), json_schema_extra=OPERATIONAL
    )
    """Where metrics go beside the store: TensorBoard's event files in the run directory; MLflow
    (evoloom[mlflow]) as MLFLOW_TRACKING_URI says."""
    memory_limit_gib: PositiveFloat | None = Field(default=None, json_schema_extra=OPERATIONAL)
    """Memory that the estimate of the peak is held against before anything is started, in GiB; unset:
    what is free on the device."""
