"""Fixtures that tests in several folders use."""

import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Tests send Ctrl-C to processes; what a shell runs in the background would ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of other people's code; not in this repository, so tests skip where it is not."""
    folder = Path(__file__).parents[2] / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden numbers in {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory) -> Path:
    """A saved tokenizer of random weights, 64,000 codes and four code heads: fast, and no more."""
    import torch
    from diffusers import AutoencoderKL

    from viq import Tokenizer
    from viq.external.vae import Vae
    from viq.image import ImageConfig
    from viq.model.embedder import EmbedderConfig
    from viq.model.encoder import EncoderConfig
    from viq.model.head import HeadConfig, QuantizerConfig
    from viq.model.latent_head import LatentHeadConfig
    from viq.model.network import Network, NetworkConfig

    width, code_width = 64, 16
    quantizer = QuantizerConfig(levels=(8, 8, 8, 5, 5, 5))
    config = NetworkConfig(
        encoder=EncoderConfig(
            width=width, depth=1, attention_heads=2, mlp_width=width, position_side=8
        ),
        head=HeadConfig(
            width=width,
            attention_heads=2,
            mlp_width=width,
            depth=1,
            code_heads=4,
            code_width=code_width,
            expand_width=width,
            code_depth=1,
            code_mlp_width=2 * code_width,
            rope_width=code_width,
            quantizer=quantizer,
        ),
        embedder=EmbedderConfig(
            width=width,
            code_heads=4,
            code_width=code_width,
            merge_width=width,
            mlp_width=width,
            depth=1,
            residual_width=width,
            quantizer=quantizer,
        ),
        latent_head=LatentHeadConfig(width=width, attention_heads=2, mlp_width=width, depth=1),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(config).eval()
        for parameter in network.parameters():
            if parameter.ndim > 1:  # larger than usual, or all patches would have one code
                torch.nn.init.xavier_normal_(parameter, gain=1.3)
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 16),
            layers_per_block=1,
            latent_channels=16,
            norm_num_groups=4,
            mid_block_add_attention=False,
            scaling_factor=1.0,
        )
    folder = tmp_path_factory.mktemp("tiny-tokenizer")
    vae = Vae(autoencoder.eval())
    Tokenizer.from_network(network, ImageConfig(), vae).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_tokenizer_folder):
    """The tokenizer of ``tiny_tokenizer_folder``."""
    import viq

    return viq.load(tiny_tokenizer_folder)


@pytest.fixture(scope="session")
def make_tokenizer():
    """Builds tokenizers of transformers whose tokens are bytes, and words that BPE would merge."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def build(special: tuple[str, ...] = ("<|im_start|>", "<|im_end|>", "<|pad|>"), **options):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        # Merges across a cut would show that text was tokenised as a whole.
        merges = [("t", "h"), ("th", "e"), ("Ċ", "t"), ("Ċ", "Ċ"), ("s", ">")]
        tokens = [*alphabet, *("".join(pair) for pair in merges)]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.decoder = decoders.ByteLevel()
        inner.add_special_tokens(list(special))
        return PreTrainedTokenizerFast(tokenizer_object=inner, **options)

    return build
