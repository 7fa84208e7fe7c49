"""The student at work: an adapter in vLLM beside its base, a merged checkpoint, or Transformers.

`requests` says what a student is asked, `served` and `local` answer it, `proof` checks that a served
adapter does what PEFT does with it.
"""
