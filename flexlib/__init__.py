"""flexlib: published formulations of local flexibility in distribution grids, exact and checked.

Balanced (single-phase equivalent) networks only. Powers are consumption: positive for loads,
negative for generators. Every name with a unit carries it.
"""

from flexlib.bids import Bids, Connected, read_bids
from flexlib.bilevel import Bilevel, Follower
from flexlib.bilevel_big_m import NoBigM, big_m
from flexlib.bilevel_check import findings
from flexlib.bilevel_pyomo import bilevel_of
from flexlib.bilevel_solve import BilevelOptimum, solve_bilevel
from flexlib.centralised import Centralised, centralised
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
from flexlib.hub_decomposition import DecomposedPrices, decomposed_prices
from flexlib.hub_followers import Answer, answer, no_pricing
from flexlib.hub_grid import HubGrid, read_grid, read_limits
from flexlib.hub_model import printed_centralised, printed_hubs
from flexlib.hub_network import HubNetwork, ac_check, network_grid
from flexlib.hubs import Hubs, read_hubs
from flexlib.light_model import LightModel, linearise
from flexlib.market import Market, read_offers
from flexlib.network import Network
from flexlib.planes import Circle, LambdaBeta, Planes
from flexlib.powerflow import power_flow
from flexlib.pricing import Prices, linear_prices
from flexlib.pricing_band import Band, import_band, net_band
from flexlib.pricing_evaluation import evaluated
from flexlib.pricing_exact import ExactPrices, exact_prices
from flexlib.pricing_quadratic_tariff import QuadraticTariff, quadratic_tariff
from flexlib.pricing_steps import with_joint_steps
from flexlib.pricing_subscription import DemandCharges, capacity_subscription, demand_charges
from flexlib.profiles import network_at, power_profiles, read_profiles
from flexlib.quadratic_exact import exact_quadratic_prices
from flexlib.quadratic_follower import QuadraticAnswer, QuadraticFollower
from flexlib.quadratic_pricing import QuadraticPrices, quadratic_prices
from flexlib.quadratic_program import QuadraticSolution, solve_quadratic
from flexlib.quadratic_steps import with_linearised_steps
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
from flexlib.tariffs import Block, DemandCharge, Tariff
from flexlib.uncertainty import Box, Budget, read_bands
from flexlib.voronoi import Activation, activate
from flexlib.voronoi_ac import Comparison
from flexlib.voronoi_model import printed_milp

__version__ = "0.1.0"

__all__ = [
    "Activation",
    "Answer",
    "Band",
    "Bids",
    "Bilevel",
    "BilevelOptimum",
    "Block",
    "Box",
    "Budget",
    "Centralised",
    "Circle",
    "Clearing",
    "Comparison",
    "Connected",
    "DataError",
    "DecomposedPrices",
    "DemandCharge",
    "DemandCharges",
    "Ellipsoid",
    "ExactPrices",
    "FlexlibError",
    "Follower",
    "HubGrid",
    "HubNetwork",
    "Hubs",
    "Infeasible",
    "LambdaBeta",
    "LightModel",
    "Market",
    "MissingExtra",
    "Network",
    "NoBigM",
    "NotProven",
    "NotSettled",
    "OperatingPoint",
    "Planes",
    "Prices",
    "QuadraticAnswer",
    "QuadraticFollower",
    "QuadraticPrices",
    "QuadraticSolution",
    "QuadraticTariff",
    "Relinearised",
    "Scenarios",
    "SolveError",
    "SupplyCurve",
    "Tariff",
    "Unbounded",
    "ac_check",
    "activate",
    "answer",
    "big_m",
    "bilevel_of",
    "capacity_subscription",
    "centralised",
    "clear",
    "clear_iterated",
    "data_path",
    "decomposed_prices",
    "demand_charges",
    "evaluated",
    "exact_prices",
    "exact_quadratic_prices",
    "findings",
    "import_band",
    "light_model_header",
    "linear_prices",
    "linearise",
    "net_band",
    "network_at",
    "network_grid",
    "no_pricing",
    "omega_any_distribution",
    "omega_gaussian",
    "operating_points",
    "power_flow",
    "power_profiles",
    "printed_centralised",
    "printed_hubs",
    "printed_milp",
    "printed_model",
    "quadratic_prices",
    "quadratic_tariff",
    "read_bands",
    "read_bids",
    "read_grid",
    "read_hubs",
    "read_light_model",
    "read_limits",
    "read_network",
    "read_offers",
    "read_profiles",
    "relinearised",
    "settle",
    "solve",
    "solve_bilevel",
    "solve_quadratic",
    "supply_curve",
    "with_joint_steps",
    "with_linearised_steps",
    "write_light_model",
]
