"""Trains the tiny Llama on generated stories and writes a Hugging Face model folder with its reference.json.

    python3 train.py [model folder]
"""
import json
import math
import os
import struct
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import bpe
from stories import story

SEED, STORIES, VAL_STORIES, THREADS = 1234, 60_000, 500, 2
VAL_FIRST = 10_000_000  # story seeds from here on are held out
PROMPTS = ["Once upon a time", "One sunny day, a little fox named Coco", "Tom and Mia were best friends.",
           "Emma had a yellow kite."]
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1024, "hidden_size": 128,
    "intermediate_size": 232, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 16, "hidden_act": "silu", "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "rope_scaling": None, "attention_bias": False, "attention_dropout": 0.0,
    "mlp_bias": False, "tie_word_embeddings": True, "initializer_range": 0.02, "use_cache": True,
    "bos_token_id": bpe.BOS, "eos_token_id": bpe.EOS, "torch_dtype": "bfloat16",
}
STEPS, LONG_FROM = 4200, 3200  # batches of 8 x 256 tokens, from step LONG_FROM on 4 x 512
PEAK_LR, FINAL_LR, WARMUP, WEIGHT_DECAY = 3e-3, 3e-5, 200, 0.1


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv, self.dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        self.q_proj = nn.Linear(c["hidden_size"], self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(c["hidden_size"], self.kv * self.dim, bias=False)
        self.v_proj = nn.Linear(c["hidden_size"], self.kv * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, c["hidden_size"], bias=False)

    def forward(self, x, cos, sin, mask):
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.dim).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv, self.dim).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv, self.dim).transpose(1, 2)
        scale = self.dim ** -0.5
        q, k = rotate(q, cos * scale, sin * scale), rotate(k, cos, sin)
        group = self.heads // self.kv  # query head h reads KV head h // group
        q = q.reshape(b, self.kv, group * t, self.dim)
        scores = (q @ k.transpose(2, 3)).view(b, self.kv, group, t, t).add_(mask)
        out = (scores.softmax(-1).view(b, self.kv, group * t, t) @ v).view(b, self.heads, t, self.dim)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))


def rotate(x, cos, sin):
    """Rotate-half RoPE; the minus sign of the first half is in `sin`."""
    return x * cos.to(x.dtype) + x.roll(x.shape[-1] // 2, -1) * sin.to(x.dtype)


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.up_proj = nn.Linear(c["hidden_size"], c["intermediate_size"], bias=False)
        self.down_proj = nn.Linear(c["intermediate_size"], c["hidden_size"], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), MLP(c)
        self.input_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        self.post_attention_layernorm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])

    def forward(self, x, cos, sin, mask):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Parameter names are those of LlamaForCausalLM; lm_head is the embedding."""

    def __init__(self, c):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.model.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.model.norm = RMSNorm(c["hidden_size"], c["rms_norm_eps"])
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * c["num_hidden_layers"]) if residual else 0.02)
        length = c["max_position_embeddings"]
        freq = c["rope_theta"] ** (-torch.arange(0, c["head_dim"], 2).float() / c["head_dim"])
        angle = torch.arange(length).float()[:, None] * freq
        self.cos, self.sin = torch.cat((angle, angle), -1).cos(), torch.cat((-angle, angle), -1).sin()
        self.mask = torch.full((length, length), -math.inf).triu(1)

    def forward(self, ids):
        t = ids.shape[1]
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, self.cos[:t], self.sin[:t], self.mask[:t, :t])
        return self.model.norm(x) @ self.model.embed_tokens.weight.T


def tokenize(tok, seeds):
    """One long stream of `<s> story </s>`, and where each story starts."""
    ids, starts = [], []
    for seed in seeds:
        starts.append(len(ids))
        ids += [bpe.BOS, *tok.encode(story(seed)), bpe.EOS]
    return torch.tensor(ids, dtype=torch.int16), torch.tensor(starts)


def rows(stream, starts, length):
    """Rows of `length + 1` tokens, each from the start of a story on."""
    return stream[starts[:, None] + torch.arange(length + 1)].long()


def loss_of(model, batch):
    logits = model(batch[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def train(model, stream, starts):
    params = list(model.parameters())
    opt = torch.optim.AdamW([{"params": [p for p in params if p.dim() == 2], "weight_decay": WEIGHT_DECAY},
                             {"params": [p for p in params if p.dim() != 2], "weight_decay": 0.0}],
                            lr=PEAK_LR, betas=(0.9, 0.99))
    starts = starts[starts < len(stream) - 513]
    order = starts[torch.randperm(len(starts))]
    begin, at = time.time(), 0
    for step in range(STEPS):
        length, size = (256, 8) if step < LONG_FROM else (512, 4)
        cosine = 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for group in opt.param_groups:
            group["lr"] = min(1, (step + 1) / WARMUP) * (FINAL_LR + (PEAK_LR - FINAL_LR) * cosine)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, rows(stream, order[at:at + size], length))
        at = (at + size) % (len(order) - size)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        if step % 100 == 0 or step == STEPS - 1:
            print(f"step {step} loss {loss.item():.4f} {time.time() - begin:.0f} s", flush=True)


@torch.no_grad()
def evaluate(model, tok):
    """Mean loss per token on held-out stories, in rows of 512 tokens."""
    stream, starts = tokenize(tok, range(VAL_FIRST, VAL_FIRST + VAL_STORIES))
    starts = starts[starts < len(stream) - 513][::4]
    return sum(loss_of(model, rows(stream, s, 512)).item() * len(s) for s in starts.split(8)) / len(starts)


@torch.no_grad()
def greedy(model, ids, count):
    """Continues ids greedily; also returns how far the best logit is above the second, at each step."""
    ids, margins = list(ids), []
    for _ in range(count):
        best = model(torch.tensor([ids]))[0, -1].topk(2)
        ids.append(best.indices[0].item())
        margins.append(round((best.values[0] - best.values[1]).item(), 6))
    return ids, margins


def round_to_bf16(model):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.bfloat16())


def save_safetensors(model, path):
    header, parts, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, p in sorted(model.named_parameters()):
        data = bytes(p.detach().bfloat16().view(torch.uint8).flatten().tolist())
        header[name] = {"dtype": "BF16", "shape": list(p.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + b"".join(parts))


def main(out="retrained"):
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    os.makedirs(out, exist_ok=True)
    tok = bpe.Tokenizer(bpe.train([story(i) for i in range(20_000)], CONFIG["vocab_size"]))
    tok.save(out, CONFIG["max_position_embeddings"])
    bpe.dump(f"{out}/config.json", CONFIG)
    bpe.dump(f"{out}/generation_config.json", {"bos_token_id": bpe.BOS, "eos_token_id": bpe.EOS, "do_sample": False})
    stream, starts = tokenize(tok, range(STORIES))
    model = Llama(CONFIG)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(stream)} tokens", flush=True)
    train(model, stream, starts)
    print(f"held-out loss {evaluate(model, tok):.4f}")
    round_to_bf16(model)
    print(f"held-out loss {evaluate(model, tok):.4f} after rounding to bf16")
    save_safetensors(model, f"{out}/model.safetensors")
    reference = []
    for prompt in PROMPTS:
        ids = [bpe.BOS, *tok.encode(prompt)]
        full, margins = greedy(model, ids, 100)
        reference.append({"prompt": prompt, "ids": full[:len(ids)], "continuation": full[len(ids):], "margins": margins})
        print(f"\n{tok.decode(full)}")
    with open(f"{out}/reference.json", "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in reference) + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
