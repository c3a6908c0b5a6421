"""flexlib: published formulations of local flexibility in distribution grids, exact and checked.

Balanced (single-phase equivalent) networks only. Powers are consumption: positive for loads,
negative for generators. Every name with a unit carries it.
"""

from flexlib.errors import DataError, FlexlibError, Infeasible, NotProven, SolveError, Unbounded
from flexlib.market import Market, read_offers
from flexlib.network import Network, read_network
from flexlib.planes import LambdaBeta, Planes
from flexlib.powerflow import power_flow
from flexlib.robust import Clearing, clear
from flexlib.robust_model import printed_model
from flexlib.solver import solve
from flexlib.tables import data_path
from flexlib.uncertainty import Box, read_bands

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Clearing",
    "DataError",
    "FlexlibError",
    "Infeasible",
    "LambdaBeta",
    "Market",
    "Network",
    "NotProven",
    "Planes",
    "SolveError",
    "Unbounded",
    "clear",
    "data_path",
    "power_flow",
    "printed_model",
    "read_bands",
    "read_network",
    "read_offers",
    "solve",
]
