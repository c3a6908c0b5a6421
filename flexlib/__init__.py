"""flexlib: published formulations of local flexibility in distribution grids, exact and checked.

Balanced (single-phase equivalent) networks only. Powers are consumption: positive for loads,
negative for generators. Every name with a unit carries it.
"""

from flexlib.ellipsoid import Ellipsoid, omega_any_distribution, omega_gaussian
from flexlib.errors import (
    DataError,
    FlexlibError,
    Infeasible,
    NotProven,
    NotSettled,
    SolveError,
    Unbounded,
)
from flexlib.market import Market, read_offers
from flexlib.network import Network
from flexlib.planes import Circle, LambdaBeta, Planes
from flexlib.powerflow import power_flow
from flexlib.profiles import network_at, power_profiles, read_profiles
from flexlib.readers import read_network
from flexlib.robust import Clearing, clear
from flexlib.robust_iterated import clear_iterated
from flexlib.robust_model import printed_model
from flexlib.robust_supply import SupplyCurve, supply_curve
from flexlib.scenarios import Scenarios
from flexlib.settlement import settle
from flexlib.solver import solve
from flexlib.tables import data_path
from flexlib.uncertainty import Box, Budget, read_bands

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Budget",
    "Circle",
    "Clearing",
    "DataError",
    "Ellipsoid",
    "FlexlibError",
    "Infeasible",
    "LambdaBeta",
    "Market",
    "Network",
    "NotProven",
    "NotSettled",
    "Planes",
    "Scenarios",
    "SolveError",
    "SupplyCurve",
    "Unbounded",
    "clear",
    "clear_iterated",
    "data_path",
    "network_at",
    "omega_any_distribution",
    "omega_gaussian",
    "power_flow",
    "power_profiles",
    "printed_model",
    "read_bands",
    "read_network",
    "read_offers",
    "read_profiles",
    "settle",
    "solve",
    "supply_curve",
]
