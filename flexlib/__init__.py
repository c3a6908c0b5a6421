"""flexlib: published formulations of local flexibility in distribution grids, exact and checked.

Balanced (single-phase equivalent) networks only. Powers are consumption: positive for loads,
negative for generators. Every name with a unit carries it.
"""

from flexlib.bids import Bids, Connected, read_bids
from flexlib.ellipsoid import Ellipsoid, omega_any_distribution, omega_gaussian
from flexlib.errors import (
    DataError,
    FlexlibError,
    Infeasible,
    MissingExtra,
    NotProven,
    NotSettled,
    SolveError,
    Unbounded,
)
from flexlib.handover import light_model_header, read_light_model, write_light_model
from flexlib.light_model import LightModel, linearise
from flexlib.market import Market, read_offers
from flexlib.network import Network
from flexlib.planes import Circle, LambdaBeta, Planes
from flexlib.powerflow import power_flow
from flexlib.profiles import network_at, power_profiles, read_profiles
from flexlib.readers import read_network
from flexlib.relinearisation import Relinearised, relinearised
from flexlib.robust import Clearing, clear
from flexlib.robust_iterated import clear_iterated
from flexlib.robust_model import printed_model
from flexlib.robust_supply import SupplyCurve, supply_curve
from flexlib.scenarios import Scenarios
from flexlib.sensitivity import OperatingPoint, operating_points
from flexlib.settlement import settle
from flexlib.solver import solve
from flexlib.tables import data_path
from flexlib.uncertainty import Box, Budget, read_bands
from flexlib.voronoi import Activation, activate
from flexlib.voronoi_ac import Comparison
from flexlib.voronoi_model import printed_milp

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Bids",
    "Box",
    "Budget",
    "Circle",
    "Clearing",
    "Comparison",
    "Connected",
    "DataError",
    "Ellipsoid",
    "FlexlibError",
    "Infeasible",
    "LambdaBeta",
    "LightModel",
    "Market",
    "MissingExtra",
    "Network",
    "NotProven",
    "NotSettled",
    "OperatingPoint",
    "Planes",
    "Relinearised",
    "Scenarios",
    "SolveError",
    "SupplyCurve",
    "Unbounded",
    "activate",
    "clear",
    "clear_iterated",
    "data_path",
    "light_model_header",
    "linearise",
    "network_at",
    "omega_any_distribution",
    "omega_gaussian",
    "operating_points",
    "power_flow",
    "power_profiles",
    "printed_milp",
    "printed_model",
    "read_bands",
    "read_bids",
    "read_light_model",
    "read_network",
    "read_offers",
    "read_profiles",
    "relinearised",
    "settle",
    "solve",
    "supply_curve",
    "write_light_model",
]
