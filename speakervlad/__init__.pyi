from .config import Config as Config
from .config import load_config as load_config
from .data.audio import read_audio as read_audio
from .data.manifest import Manifest as Manifest
from .errors import InputError as InputError
from .evaluation.embeddings import Embeddings as Embeddings
from .evaluation.metrics import VerificationReport as VerificationReport
from .evaluation.metrics import equal_error_rate as equal_error_rate
from .evaluation.metrics import min_dcf as min_dcf
from .evaluation.metrics import verification_report as verification_report
from .evaluation.normalisation import adaptive_s_norm as adaptive_s_norm
from .evaluation.scoring import cosine_scores as cosine_scores
from .evaluation.trials import Trials as Trials
from .evaluation.trials import read_trials as read_trials
from .inference.engine import Embedder as Embedder
from .inference.engine import Windows as Windows
from .inference.engine import load_encoder as load_encoder
from .inference.pooling_sums import PoolingSums as PoolingSums
from .inference.state import VladState as VladState
from .models.encoder import SpeakerEncoder as SpeakerEncoder
from .models.pooling import NetVLAD as NetVLAD
from .training.run import train as train

__version__: str
