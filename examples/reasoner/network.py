"""The network (a small Llama, with the names Hugging Face gives its parts) and a batched decoder.

The decoder keeps the rule for the closing token on the device: replace it by a phrase or by a learned row,
or force it at a line end when a margin or a budget says so."""
import torch
import torch.nn as nn
import torch.nn.functional as F

import task

CONTINUE = len(task.TOKENS)  # input-only id of the learned row
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": len(task.TOKENS), "hidden_size": 192,
    "intermediate_size": 512, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 2,
    "head_dim": 32, "hidden_act": "silu", "max_position_embeddings": 1024, "rope_theta": 10000.0,
    "rope_scaling": None, "rms_norm_eps": 1e-05, "attention_bias": False, "mlp_bias": False,
    "attention_dropout": 0.0, "initializer_range": 0.02, "tie_word_embeddings": False, "use_cache": True,
    "bos_token_id": task.BOS, "eos_token_id": task.EOS, "pad_token_id": task.PAD, "torch_dtype": "bfloat16"}
LAYERS, HEADS, KV_HEADS, HEAD, WIDTH, LIMIT = 5, 6, 2, 32, 192, 1024


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return F.rms_norm(x, (WIDTH,), self.weight, 1e-5)


def angles(count, device):
    inverse = 10000.0 ** (-torch.arange(HEAD // 2, device=device, dtype=torch.float32) * 2 / HEAD)
    turn = torch.arange(count, device=device)[:, None].float() * inverse
    return turn.cos(), turn.sin()


def rotate(x, cos, sin):
    """x [..., positions, HEAD]; the halves are rotated against each other."""
    a, b = x[..., :HEAD // 2], x[..., HEAD // 2:]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def linear(rows, columns):
    return nn.Linear(rows, columns, bias=False)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.o_proj = linear(WIDTH, HEADS * HEAD), linear(HEADS * HEAD, WIDTH)
        self.k_proj, self.v_proj = linear(WIDTH, KV_HEADS * HEAD), linear(WIDTH, KV_HEADS * HEAD)

    def split(self, x, cos, sin):
        batch, count, _ = x.shape
        q = self.q_proj(x).view(batch, count, HEADS, HEAD).transpose(1, 2)
        k = self.k_proj(x).view(batch, count, KV_HEADS, HEAD).transpose(1, 2)
        v = self.v_proj(x).view(batch, count, KV_HEADS, HEAD).transpose(1, 2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def forward(self, x, cos, sin):
        q, k, v = self.split(x, cos, sin)
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))

    def step(self, x, cos, sin, place, cache, bias):
        """One position for each sequence; bias [window] hides the positions not yet written."""
        q, k, v = self.split(x, cos, sin)
        keys, values = cache
        keys.index_copy_(2, place, k)
        values.index_copy_(2, place, v)
        window, batch = bias.shape[0], x.shape[0]
        q = q.reshape(batch * KV_HEADS, HEADS // KV_HEADS, HEAD)
        keys, values = (t[:, :, :window].flatten(0, 1) for t in (keys, values))
        weight = (q @ keys.transpose(1, 2)).float() * HEAD ** -0.5 + bias
        y = weight.softmax(-1).to(x.dtype) @ values
        return self.o_proj(y.reshape(batch, 1, HEADS * HEAD))


class Feed(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = linear(WIDTH, 512), linear(WIDTH, 512), linear(512, WIDTH)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = Norm(), Norm()
        self.self_attn, self.mlp = Attention(), Feed()

    def forward(self, x, *where):
        x = x + self.self_attn(self.input_layernorm(x), *where)
        return x + self.mlp(self.post_attention_layernorm(x))

    def step(self, x, *where):
        x = x + self.self_attn.step(self.input_layernorm(x), *where)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(len(task.TOKENS), WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()


class Reasoner(nn.Module):
    def __init__(self):
        super().__init__()
        self.model, self.lm_head = Trunk(), linear(WIDTH, len(task.TOKENS))
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids, row=None):
        table = self.model.embed_tokens.weight
        x = F.embedding(ids, table if row is None else torch.cat((table, row[None].to(table.dtype))))
        cos, sin = angles(ids.shape[1], ids.device)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.lm_head(self.model.norm(x))


class Decoder:
    """Samples a batch of sequences in lock step. On a GPU one step is one captured graph for each window."""

    def __init__(self, net, batch, dtype):
        self.net, self.batch = net, batch
        self.device = net.lm_head.weight.device
        new = lambda *shape, dtype=torch.long: torch.zeros(*shape, dtype=dtype, device=self.device)
        self.cache = [tuple(new(batch, KV_HEADS, LIMIT, HEAD, dtype=dtype) for _ in "kv") for _ in range(LAYERS)]
        self.ids, self.length, self.start = new(batch, LIMIT), new(batch), new(batch)
        self.left, self.used, self.inside, self.size = new(batch), new(batch), new(batch), new(batch)
        self.phrase, self.ended = new(batch, 3, 3), new(batch, dtype=torch.bool)
        self.place, self.budget = new(1), new(1)
        self.temperature, self.margin = new(1, dtype=torch.float32), new(1, dtype=torch.float32)
        self.table = torch.cat((net.model.embed_tokens.weight.detach(), new(1, WIDTH, dtype=dtype)))
        self.cos, self.sin = angles(LIMIT, self.device)
        self.every = torch.arange(LIMIT, device=self.device)
        self.graphs = {}

    def logits(self, x, window):
        cos, sin = self.cos.index_select(0, self.place), self.sin.index_select(0, self.place)
        bias = torch.where(self.every[:window] <= self.place, 0.0, float("-inf"))
        h = F.embedding(x, self.table)
        for layer, cache in zip(self.net.model.layers, self.cache):
            h = layer.step(h, cos, sin, self.place, cache, bias)
        out = self.net.lm_head(self.net.model.norm(h))[:, 0].float()
        out[:, :task.UNK + 1] = -1e9
        return out

    def close(self, logits, x):
        """True where the thinking must close now: at a line end, by margin or budget."""
        others = logits.clone()
        others[:, task.END_THINK] = -1e9
        line = (x[:, 0] == task.LINE) & (self.place >= self.start)
        margin = others.max(-1).values - logits[:, task.END_THINK] <= self.margin
        return line & (margin | (self.place + 1 - self.start >= self.budget))

    def step(self, window):
        x = self.ids.index_select(1, self.place)
        logits = self.logits(x, window)
        noise = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
        token = (logits / self.temperature + noise).argmax(-1)
        after = self.place + 1
        free = (after >= self.length) & ~self.ended
        stop = self.close(logits, x) & free
        token = torch.where(stop, task.END_THINK, token)
        go_on = (token == task.END_THINK) & (self.left > 0) & free & ~stop & (self.inside == 0)
        within = (self.inside > 0) & free
        which = (self.used - (self.inside > 0).long()).clamp(0, 2)[:, None, None].expand(-1, 1, 3)
        word = self.phrase.gather(1, which)[:, 0].gather(1, self.inside.clamp(max=2)[:, None])[:, 0]
        token = torch.where(go_on | within, word, token)
        self.left -= go_on.long()
        self.used += go_on.long()
        inside = torch.where(go_on | within, self.inside + 1, self.inside)
        self.inside.copy_(torch.where(inside >= self.size, 0, inside))
        now = self.ids.index_select(1, after)[:, 0]
        self.ids.index_copy_(1, after, torch.where(free, token, now)[:, None])
        self.length += free.long()
        self.ended |= free & (token == task.EOS)
        self.place.copy_(after)

    def capture(self, window):
        keep = [t.clone() for t in self.state()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.step(window)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step(window)
        self.graphs[window] = graph
        for old, value in zip(self.state(), keep):
            old.copy_(value)

    def state(self):
        return (self.ids, self.length, self.left, self.used, self.inside, self.ended, self.place)

    @torch.no_grad()
    def run(self, prompts, phrases=None, times=0, temperature=0.6, row=None, budget=LIMIT, margin=-1e9, limit=LIMIT):
        """prompts: lists of ids. phrases: for each sequence its phrase for every continuation, three lists of ids.
        Gives the ids [batch, LIMIT] and their lengths, prompts included."""
        ids = torch.zeros(self.batch, LIMIT, dtype=torch.long)
        lengths = torch.tensor([len(p) for p in prompts])
        flat = torch.tensor([token for p in prompts for token in p])
        ids[torch.arange(LIMIT)[None] < lengths[:, None]] = flat
        for state in self.state():
            state.zero_()
        self.ids.copy_(ids)
        self.length.copy_(lengths)
        self.start.copy_(lengths)
        self.left.copy_(torch.as_tensor(times).expand(self.batch))
        self.fill_phrases(phrases)
        self.temperature.fill_(temperature)
        self.budget.fill_(budget)
        self.margin.fill_(margin)
        if row is not None:
            self.table[CONTINUE].copy_(row)
        for i in range(limit - 1):
            window = min(LIMIT, (i // 128 + 1) * 128)
            if self.device.type == "cuda":
                if window not in self.graphs:
                    self.capture(window)
                self.graphs[window].replay()
            else:
                self.step(window)
            if i % 32 == 31 and self.ended.float().mean().item() >= 0.9995:
                break
        return self.ids.clone(), self.length.clone()

    def fill_phrases(self, phrases):
        if phrases is None:
            phrases = [[[CONTINUE]] * 3] * self.batch
        same = {}
        table = []
        for phrase in phrases:
            key = str(phrase)
            if key not in same:
                same[key] = [(part + [0, 0])[:3] for part in phrase], len(phrase[0])
            table.append(same[key])
        self.phrase.copy_(torch.tensor([entry[0] for entry in table]))
        self.size.copy_(torch.tensor([entry[1] for entry in table]))


def rounded(net, dtype, device):
    """A frozen copy whose weights are rounded to bfloat16, as they ship, held in dtype."""
    copy = Reasoner().to(device)
    copy.load_state_dict({name: value.to(torch.bfloat16).float() for name, value in net.state_dict().items()})
    return copy.to(dtype).eval().requires_grad_(False)
