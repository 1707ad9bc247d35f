"""Makes binding, sampler, plan, proof and claim.json: the formats of docs/FORMATS.md, second implementation.

It was written from that text, shares no code with lib/, and needs nothing but Python 3:
    python3 test/vectors/formats.py
"""
import hashlib
import json
import os
import struct
from fractions import Fraction

HERE = os.path.dirname(os.path.abspath(__file__))
MADE_BY = 'test/vectors/formats.py, an implementation of docs/FORMATS.md that shares no code with lib/'


def H(use, *parts):
    return hashlib.sha256(b'proof-of-cache/v1/' + use.encode() + b'\0' + b''.join(parts)).digest()


def le32(*values):
    return b''.join(struct.pack('<I', value) for value in values)


def cbor(value):
    def head(major, n):
        if n < 24:
            return bytes([major << 5 | n])
        for info, size, code in ((24, 1, '>B'), (25, 2, '>H'), (26, 4, '>I'), (27, 8, '>Q')):
            if n < 1 << 8 * size:
                return bytes([major << 5 | info]) + struct.pack(code, n)

    if isinstance(value, float):
        return b'\xfb' + struct.pack('>d', value)
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b''.join(map(cbor, value))
    pairs = sorted((cbor(key), cbor(item)) for key, item in value.items())
    return head(5, len(pairs)) + b''.join(key + item for key, item in pairs)


def header_map(header):
    sampling, stop = header['sampling'], header['stop']
    return {
        **header,
        'modelDigest': bytes.fromhex(header['modelDigest']),
        'nonce': bytes.fromhex(header['nonce']),
        'previousRoot': bytes.fromhex(header['previousRoot']),
        'stop': stop and {'maxNewTokens': stop['maxNewTokens'], 'stopTokens': le32(*stop['stopTokens'])} or {},
        'sampling': sampling and {
            'temperature': float(sampling['temperature']),
            'topK': sampling['topK'],
            'topP': float(sampling['topP']),
            'seed': bytes.fromhex(sampling['seed']),
        } or {},
    }


def binding(header):
    return H('binding', cbor(header_map(header)))


def contexts(header, tokens):
    digest, out = H('context-start', binding(header)), []
    for token in tokens:
        digest = H('context', digest, le32(token))
        out.append(digest)
    return out


def token_samples(name, context, position):
    family, _, argument = name.partition(':')
    if family == 'bernoulli':
        rate = Fraction(argument)
        word = int.from_bytes(H('token-sampler', context)[:8], 'little')
        return word < 2**64 * rate.numerator // rate.denominator
    if family == 'every':
        return position % int(argument) == int(argument) - 1
    assert name == 'all'
    return True


class Stream:
    """Unbiased integers; counts what it rejects."""

    def __init__(self, context, use='layer-sampler'):
        self.context, self.use, self.block, self.words, self.rejected = context, use, 0, [], 0

    def below(self, bound):
        while True:
            if not self.words:
                self.words = list(struct.unpack('<8I', H(self.use, self.context, le32(self.block))))
                self.block += 1
            word = self.words.pop(0)
            if word < 2**32 // bound * bound:
                return word % bound
            self.rejected += 1


def sampled_layers(name, context, num_layers, stream=None):
    family, _, argument = name.partition(':')
    if family == 'fixed':
        return [int(layer) for layer in argument.split(',')]
    stream = stream or Stream(context)
    candidates = [0] if num_layers == 1 else list(range(1, num_layers))
    count, size = min(int(argument), len(candidates)), len(candidates)
    if family == 'stratified':
        edges = [band * size // count for band in range(count + 1)]
        return [candidates[low + stream.below(high - low)] for low, high in zip(edges, edges[1:])]
    chosen = set()
    for last in range(size - count, size):
        drawn = stream.below(last + 1)
        chosen.add(last if drawn in chosen else drawn)
    return [candidates[i] for i in sorted(chosen)]


def deepest(depth, num_layers, seed):
    if depth == 'kv':
        return num_layers - 1
    if depth == 'full':
        return num_layers
    stream = Stream(seed, 'depth')
    return 1 + min(stream.below(num_layers) for _ in range(int(depth.partition(':')[2])))


def plan(header, tokens, seed=None):
    chain, layers = contexts(header, tokens), {}
    depth = deepest(header['depth'], header['numLayers'], seed) + 1
    for position in range(len(tokens) - 1):
        context = H('challenge-context', seed, le32(position)) if seed else chain[position]
        if token_samples(header['tokenSampler'], context, position) or position == len(tokens) - 2:
            for layer in sampled_layers(header['layerSampler'], context, depth):
                layers.setdefault(layer, []).append(position)
    return {'contextDigest': chain[-1].hex(), 'layers': [[layer, layers[layer]] for layer in sorted(layers)]}


def tree_head(leaves):
    """RFC 6962, section 2.1, as it is written there: split at the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return H('node', tree_head(leaves[:split]), tree_head(leaves[split:]))


def tree_path(leaves, wanted, first=0, level=0):
    """Heads of the largest subtrees without a wanted leaf, as (level at which it meets its neighbour, place, head)."""
    if not any(first <= i < first + len(leaves) for i in wanted):
        return [(level, first, tree_head(leaves))]
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    level = split.bit_length() - 1
    return tree_path(leaves[:split], wanted, first, level) + tree_path(leaves[split:], wanted, first + split, level)


HEADER = {
    'version': 1,
    'modelDigest': '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
    'numLayers': 8,
    'numKvHeads': 1,
    'headDim': 2,
    'hiddenSize': 3,
    'numerics': 'ieee32',
    'kvDtype': 'bf16',
    'promptLength': 2,
    'sampling': {'temperature': 0.7, 'topK': 40, 'topP': 0.95, 'seed': '2a'},
    'stop': {'maxNewTokens': 3, 'stopTokens': [2, 7]},
    'challenge': 'context',
    'depth': 'kv',
    'form': 'rows',
    'tokenSampler': 'every:2',
    'layerSampler': 'stratified:2',
    'nonce': 'c0ffee',
    'previousRoot': '',
}
GREEDY = {'temperature': 0, 'topK': 0, 'topP': 1, 'seed': ''}
TOKENS = [1, 300, 70000, 4294967295, 5]


def binding_vectors():
    headers = [
        HEADER,
        {**HEADER, 'sampling': GREEDY, 'nonce': '', 'kvDtype': 'f32', 'promptLength': 5},
        {**HEADER, 'numLayers': 4096, 'numKvHeads': 4096, 'headDim': 4096, 'kvDtype': 'f16', 'nonce': 'ff' * 64,
         'sampling': {'temperature': 1e-300, 'topK': 4294967295, 'topP': 1 / 3, 'seed': '00' * 64},
         'tokenSampler': 'acme/entropy:v2', 'layerSampler': 'fixed:0,3,4095'},
        {**HEADER, 'sampling': None, 'stop': None, 'numerics': 'llama.cpp', 'form': 'sketch', 'depth': 'full'},
        {**HEADER, 'hiddenSize': 65536, 'challenge': 'beacon', 'depth': 'random:3', 'form': 'digest',
         'stop': {'maxNewTokens': 1048576, 'stopTokens': []}, 'previousRoot': '99' * 32},
    ]
    return [{
        'header': header,
        'cbor': cbor(header_map(header)).hex(),
        'binding': binding(header).hex(),
        'tokens': TOKENS,
        'contexts': [context.hex() for context in contexts(header, TOKENS)],
    } for header in headers]


def sampler_vectors():
    digests = [hashlib.sha256(le32(i)).digest() for i in range(64)]
    tokens = [('bernoulli:1/32', 'bernoulli:1/32'), ('bernoulli:0.5', 'bernoulli:1/2'), ('bernoulli:6/4294967295',
              'bernoulli:2/1431655765'), ('bernoulli:0.333333333', 'bernoulli:333333333/1000000000'),
              ('bernoulli:1.0', 'bernoulli:1/1'), ('every:7', 'every:7'), ('all', 'all')]
    layers = [('uniform:1', 2), ('uniform:3', 32), ('uniform:12', 33), ('uniform:100', 5), ('uniform:2', 1),
              ('stratified:2', 32), ('stratified:5', 13), ('stratified:9', 4), ('stratified:1', 1), ('fixed:0,3,5', 6)]
    return {
        'contexts': [digest.hex() for digest in digests],
        'token': [{'name': name, 'canonical': canonical, 'positions':
                   [i for i, digest in enumerate(digests) if token_samples(canonical, digest, i)]}
                  for name, canonical in tokens],
        'layer': [{'name': name, 'numLayers': num_layers, 'layers':
                   [sampled_layers(name, digest, num_layers) for digest in digests]} for name, num_layers in layers],
        'rejection': rejection_vector(),
    }


def rejection_vector():
    """The first context of its kind for which the unbiased draw has to throw a word away: about 1 in 30000."""
    for i in range(10**6):
        context = hashlib.sha256(le32(i)).digest()
        stream = Stream(context)
        layers = sampled_layers('uniform:64', context, 4096, stream)
        if stream.rejected:
            return {'name': 'uniform:64', 'numLayers': 4096, 'context': context.hex(), 'layers': layers}


def plan_vectors():
    tokens = [i * i * 2654435761 % 32000 for i in range(60)]
    cases = [('every:2', 'stratified:2', 8, TOKENS), ('bernoulli:1/4', 'uniform:2', 6, tokens),
             ('bernoulli:1/1000000', 'stratified:3', 32, tokens), ('all', 'fixed:0,2', 3, tokens[:9]),
             ('every:64', 'uniform:4', 1, tokens[:2])]
    headers = [({**HEADER, 'tokenSampler': token, 'layerSampler': layer, 'numLayers': num_layers, 'depth': depth},
                case_tokens) for depth in ('kv', 'full') for token, layer, num_layers, case_tokens in cases]
    made = [{'header': header, 'tokens': case_tokens, **plan(header, case_tokens)} for header, case_tokens in headers]
    for depth in ('kv', 'full', 'random:1', 'random:4'):
        for token, layer, num_layers, case_tokens in cases:
            if layer.startswith('fixed') and depth.startswith('random'):
                continue
            header = {**HEADER, 'tokenSampler': token, 'layerSampler': layer, 'numLayers': num_layers, 'depth': depth,
                      'challenge': 'beacon'}
            root, beacon = hashlib.sha256(layer.encode()).digest(), b'drand' + depth.encode()
            drawn = plan(header, case_tokens, H('challenge', root, beacon))
            made.append({'header': header, 'tokens': case_tokens, 'root': root.hex(), 'beacon': beacon.hex(), **drawn})
    return made


def proof_vector(header, tokens, row, beacon=b''):
    """`row(layer, position, part)`: K (0) and V (1); at layer numLayers the hidden state (0), V is empty then."""
    root, seed, leaves = b'', None, []
    if beacon:
        places = [(layer, p) for p in range(len(tokens) - 1) for layer in range(header['numLayers'] + 1)]
        leaves = [H('leaf', le32(layer, p), row(layer, p, 0), row(layer, p, 1)) for layer, p in places]
        size = le32(len(tokens) - 1, header['numLayers'] + 1)
        root = H('commitment', binding(header), contexts(header, tokens)[-1], size, tree_head(leaves))
        seed = H('challenge', root, beacon)
    made = plan(header, tokens, seed)
    groups = [{'layer': layer, 'positions': le32(*positions), 'k': b''.join(row(layer, p, 0) for p in positions),
               'v': b''.join(row(layer, p, 1) for p in positions)} for layer, positions in made['layers']]
    wanted = [p * (header['numLayers'] + 1) + layer for layer, positions in made['layers'] for p in positions]
    path = b''.join(head for _, _, head in sorted(tree_path(leaves, wanted), key=lambda node: node[:2])) if beacon else b''
    recomputed = [part for g in groups for part in
                  (le32(g['layer'], len(g['positions']) // 4), g['positions'], g['k'], g['v'])]
    digest = H('samples', *recomputed)
    is_digest = header['form'] == 'digest'
    encoded = cbor({'poc': 'proof-of-cache', 'path': path, 'root': root, 'beacon': beacon, 'header': header_map(header),
                    'tokens': le32(*tokens), 'context': bytes.fromhex(made['contextDigest']),
                    'samples': digest if is_digest else groups})
    samples = [] if is_digest else [{'layer': layer, 'position': p, 'k': row(layer, p, 0).hex(), 'v': row(layer, p, 1).hex()}
               for layer, positions in made['layers'] for p in positions]
    return {'header': header, 'tokens': tokens, 'contextDigest': made['contextDigest'], 'samples': samples,
            'root': root.hex(), 'beacon': beacon.hex(), 'path': path.hex(),
            'bytes': encoded.hex(), 'proofDigest': H('proof', encoded).hex(), 'samplesDigest': digest.hex()}


def proof_vectors():
    small = proof_vector(HEADER, TOKENS, lambda layer, position, part: bytes([layer, position, part, 0x3f]))
    # Rows of any bits are legal: here every bf16 is a NaN or an infinity.
    bits = lambda layer, position, part: b''.join(struct.pack('<H', 0x7f80 | layer * part + i) for i in range(64))
    wide = {**HEADER, 'headDim': 64, 'tokenSampler': 'all', 'layerSampler': 'uniform:3',
            'sampling': GREEDY}
    committed = {**HEADER, 'challenge': 'beacon', 'depth': 'full', 'tokenSampler': 'every:3', 'stop': None}

    def filled(header):
        def row(layer, position, part):
            is_hidden = layer == header['numLayers']
            length = (12, 0)[part] if is_hidden else 4
            return hashlib.sha256(le32(layer, position, part)).digest()[:length]
        return row

    odd = {**committed, 'numLayers': 2, 'layerSampler': 'uniform:1', 'depth': 'random:1'}
    digest = {**committed, 'form': 'digest'}
    return [small, proof_vector(wide, list(range(20)), bits)] + [
        proof_vector(header, tokens, filled(header), beacon) for header, tokens, beacon in
        [(committed, TOKENS, b'\x01'), (committed, list(range(12)), b'round 7'), (odd, list(range(8)), b'\xff' * 64),
         (digest, list(range(9)), b'x'), ({**digest, 'challenge': 'context', 'depth': 'kv'}, TOKENS, b'')]]


def claim_vectors(proofs):
    """What was published before each of the proofs that a beacon asked for, and its challenge; trees of their own."""
    claims = []
    for proof in proofs:
        root, beacon, header = bytes.fromhex(proof['root']), bytes.fromhex(proof['beacon']), proof['header']
        if not root:
            continue
        encoded = cbor({'poc': 'proof-of-cache/claim', 'root': root, 'header': header_map(header),
                        'tokens': le32(*proof['tokens']), 'context': bytes.fromhex(proof['contextDigest'])})
        seed = H('challenge', root, beacon)
        claims.append({'header': header, 'tokens': proof['tokens'], 'contextDigest': proof['contextDigest'],
                       'root': proof['root'], 'bytes': encoded.hex(), 'beacon': proof['beacon'], 'seed': seed.hex(),
                       'deepest': deepest(header['depth'], header['numLayers'], seed),
                       'layers': plan(header, proof['tokens'], seed)['layers']})
    wanted_leaves = [(1, [0]), (2, [1]), (3, [2]), (5, [0, 4]), (6, [5]), (7, [2, 3, 6]), (13, [0, 7, 11, 12]),
                     (64, list(range(64))), (100, [3, 50, 98]), (300, [0, 1, 255, 256, 299])]
    trees = []
    for size, wanted in wanted_leaves:
        leaves = [hashlib.sha256(le32(i)).digest() for i in range(size)]
        path = b''.join(head for _, _, head in sorted(tree_path(leaves, wanted), key=lambda node: node[:2]))
        trees.append({'numLeaves': size, 'indices': wanted, 'head': tree_head(leaves).hex(), 'path': path.hex()})
    return {'claims': claims, 'trees': trees}


def write(name, vectors):
    with open(os.path.join(HERE, name), 'w') as file:
        json.dump({'madeBy': MADE_BY, 'vectors': vectors}, file, separators=(',', ':'))
        file.write('\n')


if __name__ == '__main__':
    write('binding.json', binding_vectors())
    write('sampler.json', sampler_vectors())
    write('plan.json', plan_vectors())
    write('proof.json', proof_vectors())
    write('claim.json', claim_vectors(proof_vectors()))
